"""A teacher as the target of speculate.py: the steps that are asked of an episode are one pass, and what was read is not read again.

teacher.Memory answers one step at a time and reads the whole history for it. Here keys and values of the text and of the states that Memory
would keep, one each SPACING_S, stay from call to call; a step in between is seen by itself alone, so that the steps of a draft stand beside
each other at the place behind the history of each. The answers are Memory's. Of a draft that is taken back nothing stays, as only
what lies before the first step asked, and this one, was executed. It samples nothing and trains nothing.
"""

import math

import numpy as np
import torch

import backbone
import networks
import speculate
import teacher

# Of these steps of an episode the state is kept.
EVERY = math.ceil(0.9 * teacher.SPACING_S / speculate.STEP_S)
# More would need what Memory does when it is full.
MOST_STEPS = EVERY * teacher.MEMORY


def kept_before(step):
    """How many states are kept of the steps before this one."""
    return -(-step // EVERY)


class TeacherTarget:
    """Maps speculate.Asked to the distribution that speculate.policy makes of the teacher's answers. Episodes of MOST_STEPS at most."""

    def __init__(self, net, text, device, threshold=teacher.THRESHOLD, tau=speculate.TAU):
        self.net, self.device, self.threshold, self.tau = net.eval(), device, threshold, tau
        self.text, words = net.padded([text], device)
        self.words = int(words)
        self.caches = {}
        self.passes = 0

    def __call__(self, asked):
        if len(asked.time) and asked.time.max() >= MOST_STEPS:
            raise ValueError(f"step {asked.time.max()} of an episode, of {MOST_STEPS} that the teacher remembers")
        bounds = np.flatnonzero(np.diff(asked.episode)) + 1
        parts = [self.answers(asked.observations[e[0]], int(e[0]), t) for e, t in zip(np.split(asked.episode, bounds), np.split(asked.time, bounds), strict=True)]
        score, logit = np.concatenate(parts, 1)
        return speculate.policy(score, logit, self.threshold, self.tau)

    def answers(self, observations, episode, steps):
        """Score and logit (2, steps, candidates) at steps, one after the other, of an episode."""
        first = int(steps[0])
        cache = self.caches.get(episode)
        known = 0 if cache is None else len(cache) - self.words
        if cache is None or known > kept_before(first):
            cache, known = backbone.Cache(len(self.net.backbone.layers)), 0
            self.caches[episode] = cache
        fresh = np.concatenate([np.arange(known, kept_before(first)) * EVERY, steps])
        order = np.array([kept_before(t) for t in fresh])
        gap = torch.as_tensor((fresh - np.maximum(order - 1, 0) * EVERY) * speculate.STEP_S, dtype=torch.float32, device=self.device)
        x = torch.as_tensor(observations[fresh].astype(np.float16)).to(self.device)
        with torch.no_grad(), torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.device != "cpu"):
            tokens = self.net.tokens(x, gap)[None]
            places = self.words + order
            old = self.words + known
            sees = (fresh[None] == fresh[:, None]) | ((fresh[None] % EVERY == 0) & (fresh[None] < fresh[:, None]))
            sees = np.concatenate([np.ones((len(fresh), old), bool), sees], 1)
            if not len(cache):
                tokens = torch.cat([self.net.backbone.embed(self.text).to(tokens.dtype), tokens], 1)
                places = np.concatenate([np.arange(self.words), places])
                said = np.tril(np.ones((self.words, self.words + len(fresh)), bool))
                sees = np.concatenate([said, sees])
            hidden = self.net.backbone.extend(tokens, *(torch.as_tensor(a).to(self.device) for a in (places, sees)), cache)
            hidden = self.net.norm(hidden[0, -len(steps) :].float())
        with torch.no_grad():
            value, logit = self.net.answer(hidden)
        cache.cut(self.words + kept_before(first + 1))
        self.passes += 1
        return torch.stack([networks.expected(value, logit), logit]).float().cpu().numpy()
