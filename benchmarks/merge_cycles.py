"""What merge/unmerge cycles, each with another B, leave of the base weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.registry import Row, Settings, spread

FEATURES, CYCLES, SEEDS = 256, 1000, 3
UPDATES = (0.01, 0.05)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
CONDITIONS = {
    "in = out": FEATURES,
    "rank": peers.RANK,
    "cycles": CYCLES,
    "seeds": f"{SEEDS}, on an accelerator the first one",
    "update": "||scaling * B A|| / ||W|| in every cycle",
    "weights changed": "share of the weights with other bits",
    "relative change": "||W' - W|| / ||W||",
}


def check(settings: Settings) -> None:
    """Every layer computes LoRA, merged too; the comparison tells -0.0 from 0.0."""
    torch.set_num_threads(1)  # these tensors are small: threads would only wait for each other
    base = nn.Linear(FEATURES, FEATURES, device=settings.device)
    for name in peers.INSTALLED:
        peer = peers.adapted_layer(name, base)
        peers.set_update(peer, base, 0.5, settings.seed)
        peers.assert_computes_lora(peer, base, torch.ones(1, FEATURES, device=settings.device))
    for dtype in DTYPES:
        zeros = torch.zeros(2, dtype=dtype)
        assert changed(zeros, zeros.clone()) == 0
        assert changed(zeros, torch.tensor([0.0, -0.0], dtype=dtype)) == 0.5


def rows(settings: Settings) -> Iterator[Row]:
    seeds = SEEDS if settings.device == "cpu" else 1
    for dtype in DTYPES:
        for update in UPDATES:
            for name in peers.INSTALLED:
                found = [cycle(settings, name, dtype, update, seed) for seed in range(seeds)]
                share, relative = map(spread, zip(*found, strict=True))
                row: Row = {"library": name, "dtype": str(dtype).split(".")[1], "update": update}
                yield {**row, "weights changed": share, "relative change": relative}


@torch.no_grad()
def cycle(
    settings: Settings, name: str, dtype: torch.dtype, update: float, seed: int
) -> tuple[float, float]:
    """The share of the weights that changed, and by how much; equal draws for each library."""
    torch.manual_seed(settings.seed + seed)
    base = nn.Linear(FEATURES, FEATURES, device=settings.device).to(dtype)
    x = torch.ones(1, FEATURES, device=settings.device, dtype=dtype)
    peer = peers.adapted_layer(name, base)
    for turn in range(20 if settings.quick else CYCLES):
        peers.set_update(peer, base, update, (settings.seed + seed) * CYCLES + turn)
        with peer.merged():
            peer.layer(x)
    before, after = base.weight.double(), peer.weight.double()
    return changed(base.weight, peer.weight), ((after - before).norm() / before.norm()).item()


def changed(before: Tensor, after: Tensor) -> float:
    """The share of elements with other bits."""
    bits = torch.int32 if before.element_size() == 4 else torch.int16
    return (before.view(bits) != after.view(bits)).double().mean().item()
