"""Weights as files that can do nothing but be wrong: safetensors, with what is said of them as JSON in the file's metadata.

No pickle is written. Of a torch file of earlier days only tensors, arrays and plain values are read (`weights_only`), so that opening a
file from elsewhere runs nothing of it. What networks the weights belong to is the business of who loads them.
"""

import json
from pathlib import Path

import numpy as np
import torch

FORMAT = "1"
KEY = "l4sd"


def save(path, tensors, about):
    """Writes named tensors or arrays, and `about`, plain values that JSON holds."""
    from safetensors.torch import save_file

    plain = {name: torch.as_tensor(x).detach().cpu().contiguous().clone() for name, x in tensors.items()}
    save_file(plain, str(path), {"format": "pt", f"{KEY}.format": FORMAT, KEY: json.dumps(about, default=_number)})


def _number(x):
    """Of numpy's numbers, those of Python."""
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(f"{type(x).__name__} is not for a file of weights; numbers, texts and lists are")


def load(path):
    """(tensors by name, what was said of them) of a file of `save`. Ends with a message if it is no such file."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise SystemExit(f"{path}: there is no such file")
    try:
        with safe_open(str(path), "pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as e:
        raise SystemExit(f"{path}: not a file of weights (safetensors): {e}") from None
    if said.get(f"{KEY}.format") != FORMAT:
        raise SystemExit(f"{path}: its format is '{said.get(f'{KEY}.format')}'; this program knows {FORMAT}")
    return tensors, json.loads(said[KEY])


def is_torch(path):
    """Whether a file is one of torch.save: a zip archive."""
    with Path(path).open("rb") as file:
        return file.read(2) == b"PK"


def load_torch(path):
    """What a torch file of earlier days holds: tensors, arrays and plain values. Ends with a message if it holds anything else."""
    allowed = [np.ndarray, np.dtype, *{type(np.dtype(t)) for t in ("f2", "f4", "f8", "i4", "i8", "bool")}, np._core.multiarray._reconstruct, np._core.multiarray.scalar]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # noqa: BLE001  (pickle raises what it likes)
        raise SystemExit(f"{path}: holds more than weights, or is damaged, and was not loaded: {str(e).splitlines()[0]}") from None
