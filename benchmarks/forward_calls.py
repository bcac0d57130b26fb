"""Python calls, C calls and aten operations of one linear forward without gradient, 2-D input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import peers
from benchmarks.registry import Row, Settings

FEATURES, TOKENS = 64, 32
CONDITIONS = {"in = out": FEATURES, "tokens": TOKENS, "rank": peers.RANK, "dtype": "float32"}


class OperationLog(TorchDispatchMode):
    """The names of all operations that reach the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def check(settings: Settings) -> None:
    """Both counters see what is there, the same each time, and every layer computes LoRA."""
    one = torch.ones(2, device=settings.device)
    assert count_calls(lambda: len(())) == (0, 1)
    assert operations(lambda: one + one * one) == ["mul", "add"]
    base, x, adapted = layers(settings)
    for peer in adapted.values():
        peers.assert_computes_lora(peer, base, x)
        assert counts(peer.layer, x) == counts(peer.layer, x)


@torch.no_grad()
def rows(settings: Settings) -> Iterator[Row]:
    base, x, adapted = layers(settings)
    yield {"layer": "nn.Linear", "state": "plain", **counts(base, x)}
    for state in ("unmerged", "merged"):
        for name, peer in adapted.items():
            with peer.merged() if state == "merged" else nullcontext():
                yield {"layer": name, "state": state, **counts(peer.layer, x)}


def layers(settings: Settings) -> tuple[nn.Linear, Tensor, dict[str, peers.Peer]]:
    torch.manual_seed(settings.seed)
    base = nn.Linear(FEATURES, FEATURES, device=settings.device)
    adapted = {name: peers.adapted_layer(name, base) for name in peers.INSTALLED}
    for peer in adapted.values():
        peers.set_update(peer, base, 0.5, settings.seed)
    return base, torch.randn(TOKENS, FEATURES, device=settings.device), adapted


def counts(layer: nn.Module, x: Tensor) -> Row:
    """What one forward costs, after one that is not counted."""
    layer(x)
    python, c = count_calls(lambda: layer(x))
    names = operations(lambda: layer(x))
    both = {"Python": python, "C": c, "calls": python + c}
    return {**both, "aten": len(names), "operations": " ".join(names)}


def count_calls(run: Callable[[], object]) -> tuple[int, int]:
    """Python functions and C functions entered while this runs, itself left out."""
    seen = {"call": -1, "c_call": -1}  # `run` itself, and the second sys.setprofile

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event in seen:
            seen[event] += 1

    sys.setprofile(profile)
    run()
    sys.setprofile(None)
    return seen["call"], seen["c_call"]


def operations(run: Callable[[], object]) -> list[str]:
    """The aten operations that reach the dispatcher while this runs."""
    with OperationLog() as log:
        run()
    return log.names
