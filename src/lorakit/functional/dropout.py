"""Dropout that keeps no mask: the same mask is drawn again from its seed.

The seed comes from torch's CPU generator, whose state both kinds of gradient checkpointing restore
before they recompute; so a recomputed forward draws the seed, and the mask, that it drew before.
An element is zeroed where a 16-bit random number lies below p * 2^16: one draw of 64 bits serves
four elements, at a fraction of the time of a Bernoulli draw for each.

A CUDA graph would replay a seed that was drawn at its capture, so `fused` leaves dropout to torch
there, whose masks are new at every replay.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_seed() -> int:
    """A seed from torch's default CPU generator, which it moves on by one draw."""
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_().item())


def keep_mask(like: Tensor, p: float, seed: int) -> Tensor:
    """1 with probability 1 - p and 0 with p (to 16 bits), of the shape and type of `like`."""
    generator = torch.Generator(like.device).manual_seed(seed)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    halves = words.random_(-(2**63), None, generator=generator).view(torch.int16)
    below = min(round(p * 2**16), 2**16 - 1) - 2**15
    keep = torch.empty_like(like, memory_format=torch.contiguous_format)
    return torch.ge(halves[: like.numel()].view(like.shape), below, out=keep)
