"""One adapted linear layer, forward and backward, over the same layer frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.inputs import DTYPES, Operation, operations
from benchmarks.registry import Row, Settings
from benchmarks.rounds import over
from lorakit.timing import interleave

SECONDS = 2.0
CONDITIONS = {
    "layer": "in = out = width, with a bias",
    "input": "(1, tokens, width), contiguous, and it needs a gradient",
    "floor": "the layer frozen: forward and input gradient only",
    "floor again": "the floor as a candidate of its own: what differs from 1 there is noise",
    "full": "weight and bias train",
    "bfloat16": "base and input; PEFT's and lorakit's A and B are float32, loralib's bfloat16",
    "seconds per cell": SECONDS,
}


def check(settings: Settings) -> None:
    """Every candidate that adapts computes LoRA, and gives each factor a gradient."""
    torch.manual_seed(settings.seed)
    base = nn.Linear(64, 64, device=settings.device)
    x = torch.randn(1, 8, 64, device=settings.device)
    for name in peers.INSTALLED:
        peer = peers.adapted_layer(name, base, rank=4)
        peers.set_update(peer, base, 0.5, settings.seed)
        peers.assert_computes_lora(peer, base, x)
        peer = peers.adapted_layer(name, base, rank=4, dropout=0.5, training=True)
        peers.set_update(peer, base, 0.5, settings.seed)
        assert not torch.equal(peer.layer(x), peer.layer(x)), "no dropout"
        peer.layer(x).sum().backward()
        assert all(factor.grad.norm() > 0 for factor in (peer.a, peer.b))


def rows(settings: Settings) -> Iterator[Row]:
    for operation in operations(settings):
        times = interleave(
            candidates(settings, operation), settings.device, 0.3 if settings.quick else SECONDS
        )
        yield {
            **asdict(operation),
            **{name: over(times, name, "floor") for name in times if name != "floor"},
            **({"peft / lorakit": over(times, "peft", "lorakit")} if "peft" in times else {}),
            "floor, ms": median(times["floor"]) * 1e3,
            "rounds": len(times["floor"]),
        }


def candidates(settings: Settings, operation: Operation) -> dict[str, Callable[[], object]]:
    """One training step of the layer by each library, by full fine-tuning and by none."""
    torch.manual_seed(settings.seed)
    width = operation.width
    options = {"device": settings.device, "dtype": DTYPES[operation.dtype]}
    base = nn.Linear(width, width, **options).requires_grad_(False)
    x = torch.randn(1, operation.tokens, width, **options).requires_grad_()
    dy = torch.randn(1, operation.tokens, width, **options)
    layers = {"floor": base, "floor again": base}
    for name in reversed(peers.INSTALLED):
        peer = peers.adapted_layer(name, base, operation.rank, operation.dropout, training=True)
        peers.set_update(peer, base, 0.1, settings.seed)
        layers[name] = peer.layer
    layers["full"] = deepcopy(base).requires_grad_()
    return {name: step(layer, x, dy) for name, layer in layers.items()}


def step(layer: nn.Module, x: Tensor, dy: Tensor) -> Callable[[], object]:
    """Forward and backward; the gradients are dropped."""
    leaves = [x, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]

    def run() -> None:
        layer(x).backward(dy)
        for leaf in leaves:
            leaf.grad = None

    return run
