"""Where a bottleneck adapter stands in a transformer block, found for each block of a model.

The blocks are those of `methods.blocks`; the names in them are those of a known layout
(`methods.layouts`), or given in the settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lorakit.errors import TargetError, suggest
from lorakit.layers.bottleneck import CHILD
from lorakit.layers.readers import is_never_called
from lorakit.layers.refusals import overridden_forward
from lorakit.methods.blocks import Block
from lorakit.methods.layouts import part_of


@dataclass(frozen=True)
class Sublayer:
    """A module of a block whose hidden states an adapter changes."""

    name: str
    """Its full name."""
    module: nn.Module
    width: int
    """The size of its hidden states."""
    block: Block


def sublayer(model: nn.Module, block: Block, setting: str, name: str | None) -> Sublayer:
    """The module of this name in a block; "" is the block itself.

    None is a name that no layout knows, and `setting` is where a user can say it. Raises
    TargetError, with the parts of the block, if there is no such module, and for one whose forward
    may never run.
    """
    there = [part for part, _ in block.module.named_modules() if part]
    kind = f"{block.name} ({type(block.module).__name__})"
    if name is None:
        raise TargetError(
            f"{setting} is not known of {kind}; name it in the settings, as it is called in the "
            f"block: {', '.join(there)}."
        )
    module = part_of(block.module, name)
    if module is None:
        raise TargetError(
            f"{setting} is {name!r}, which {kind} has not{suggest(name, there)}; it has "
            f"{', '.join(there)}."
        )
    full = f"{block.name}.{name}" if name else block.name
    if reason := _refusal(block, name, module):
        raise TargetError(f"{full} cannot have an adapter: it {reason}.")
    return Sublayer(full, module, width(model, block), block)


def _refusal(block: Block, name: str, module: nn.Module) -> str | None:
    """Why an adapter behind this module would not run; None if it would."""
    if name and isinstance(block.module, nn.TransformerEncoderLayer):
        return (
            "is part of an nn.TransformerEncoderLayer, which in inference reads the weights of its "
            "modules and calls none of them"
        )
    parent, _, child = name.rpartition(".")
    owner = part_of(block.module, parent)
    if owner is not None and is_never_called(owner, child):
        return f"has its weight read by {type(owner).__name__}, which never calls its forward"
    if hasattr(module, CHILD):
        return f"has an attribute named {CHILD} already"
    return overridden_forward(module)


def width(model: nn.Module, block: Block) -> int:
    """The size of a block's hidden states: what its norms and the nearest config agree on.

    Raises TargetError if there are several sizes of norms, and no config says which one it is.
    """
    norms = {
        parameter.shape[0]
        for module in block.module.modules()
        for parameter in module._parameters.values()
        if _is_norm(module) and parameter is not None
    }
    said = _configured_width(model, block.name)
    if said is not None and (said in norms or not norms):
        return said
    if len(norms) == 1:
        return norms.pop()
    sizes = ", ".join(map(str, sorted(norms))) or "none"
    raise TargetError(
        f"The width of {block.name} ({type(block.module).__name__}) is not known: the sizes of its "
        f"norms are {sizes}, and its config has no hidden_size that is one of them."
    )


def _is_norm(module: nn.Module) -> bool:
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    return bool(own) and all(parameter.ndim == 1 for parameter in own)


def _configured_width(model: nn.Module, name: str) -> int | None:
    """The hidden_size of the config of the innermost module around this one that has one."""
    found = None
    parts = name.split(".")
    for depth in range(len(parts) + 1):
        config = getattr(model.get_submodule(".".join(parts[:depth])), "config", None)
        size = getattr(config, "hidden_size", None)
        found = size if isinstance(size, int) else found
    return found
