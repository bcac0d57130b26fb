"""The blocks of a transformer: the layers that its stacks repeat.

They are found by structure: a stack is a ModuleList each of whose elements has an attention and an
MLP, that is at least four modules with a matrix (a fused projection of query, key and value and the
output projection, two in the MLP). The experts of a mixture and the sublayers of a T5 block have
fewer. Of nested lists that qualify the inner ones count, if their elements are of one kind: Swin's
blocks in its stages, and not the sublayers of a Switch Transformer, whose MLPs have many experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from lorakit.errors import TargetError, suggest
from lorakit.injection.selection.naming import ending_in_any

_LEAST_MATRICES = 4


@dataclass(frozen=True)
class Block:
    """One layer of a stack."""

    name: str
    module: nn.Module


@dataclass(frozen=True)
class Stack:
    """The blocks that run one after another."""

    name: str
    blocks: tuple[Block, ...]


def stacks(model: nn.Module, layers_pattern: str | None = None) -> tuple[Stack, ...]:
    """The stacks of a model in the order of its modules; an encoder-decoder has two.

    `layers_pattern` is the name or dotted suffix of the ModuleLists, as in PEFT, for a model whose
    structure says it not. Raises TargetError, with the model's ModuleLists, if there is none.

    >>> layer = nn.TransformerEncoderLayer(8, 2)
    >>> stack, = stacks(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False))
    >>> stack.name, [block.name for block in stack.blocks]
    ('layers', ['layers.0', 'layers.1', 'layers.2'])
    """
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    if layers_pattern is None:
        chosen = _without_nested({n: blocks for n, blocks in lists.items() if _are_blocks(blocks)})
    else:
        chosen = ending_in_any(lists, [layers_pattern])
    if not chosen:
        raise TargetError(_none_found(model, layers_pattern, list(lists)))
    return tuple(
        Stack(name, tuple(Block(f"{name}.{at}", block) for at, block in enumerate(lists[name])))
        for name in chosen
    )


def last_stack(model: nn.Module, layers_pattern: str | None = None) -> Stack:
    """The stack that ends in the model's output: the only one, or the decoder.

    Raises TargetError for several stacks of which none is known to be the last, as in CLIP.
    """
    found = stacks(model, layers_pattern)
    config = getattr(model, "config", None)
    if len(found) > 1 and not getattr(config, "is_encoder_decoder", False):
        names = ", ".join(stack.name for stack in found)
        raise TargetError(
            f"{type(model).__name__} has several stacks of layers ({names}); name one of them in "
            "layers_pattern."
        )
    return found[-1]


def _without_nested(lists: Mapping[str, nn.ModuleList]) -> list[str]:
    """The names of these lists, of nested ones the inner, or the outer of a mixed one."""
    mixed = {n for n, blocks in lists.items() if len({type(block) for block in blocks}) > 1}
    nested = {n for n in lists if any(n.startswith(f"{outer}.") for outer in lists)}
    kept = [name for name in lists if name not in mixed & nested]
    return [name for name in kept if not any(inner.startswith(f"{name}.") for inner in kept)]


def _are_blocks(modules: Iterable[nn.Module]) -> bool:
    return all(map(_is_block, modules))


def _is_block(module: nn.Module) -> bool:
    matrices = [
        part
        for part in module.modules()
        if any(p is not None and p.ndim == 2 for p in part._parameters.values())
    ]
    return len(matrices) >= _LEAST_MATRICES


def _none_found(model: nn.Module, layers_pattern: str | None, lists: list[str]) -> str:
    kind, there = type(model).__name__, f"its ModuleLists are {', '.join(lists)}"
    if not lists:
        return f"{kind} has no ModuleList, so no layers are known in it."
    if layers_pattern is None:
        return f"{kind} has no stack of transformer layers; name it in layers_pattern: {there}."
    near = suggest(layers_pattern, lists)
    return f"layers_pattern {layers_pattern!r} matches no ModuleList of {kind}{near}; {there}."
