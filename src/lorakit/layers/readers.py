"""Parents that read a child's weight instead of calling its forward.

nn.MultiheadAttention computes with `out_proj.weight`, and nn.TransformerEncoderLayer's fast path
with `linear1.weight` and `linear2.weight`; the adapter in the child's forward would never run.
Such a child is exposed: reading its `weight` gives W + scaling * B A, with its gradient, while
the parameter under that name stays W.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from lorakit.errors import ConfigError
from lorakit.layers.base import LoraLayer

_READ_BY: dict[type[nn.Module], frozenset[str]] = {
    nn.MultiheadAttention: frozenset({"out_proj"}),
    nn.TransformerEncoderLayer: frozenset({"linear1", "linear2"}),
}
_watching = False


def reads_weight(parent: nn.Module, child: str) -> bool:
    """Whether `parent` may compute with the weight of its `child` without calling it."""
    return any(
        isinstance(parent, kind) and child in children for kind, children in _READ_BY.items()
    )


def dropout_problem(parent: nn.Module, child: str) -> str | None:
    """Why the child cannot have dropout on its input, or None: its forward never runs."""
    if isinstance(parent, nn.MultiheadAttention) and reads_weight(parent, child):
        return (
            f"{type(parent).__name__} reads {child}.weight and never calls {child}, "
            "so lora_dropout must be 0 there"
        )
    return None


def watch_parents(layer: LoraLayer) -> None:
    """Expose directly constructed layers when they are assigned to a parent that reads weights."""
    global _watching
    if layer.r and not _watching:
        register_module_module_registration_hook(expose_if_read)
        _watching = True


def expose_if_read(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    """Expose the weight of an adapted `child` if `parent` reads it."""
    if isinstance(child, LoraLayer) and child.r and reads_weight(parent, name):
        problem = dropout_problem(parent, name)
        if problem and child.lora_dropout:
            raise ConfigError(f"{name} cannot be adapted as it is:", [problem])
        child.expose()
