"""Adapted experts that backward computes again, instead of keeping them from forward to backward.

An operation with W' = W + s * B A keeps W' for the gradient of its input: in training the weights
of all experts once more. Here it keeps what W' is made of, and which part of it it read; backward
then computes the experts in that part again, for as long as it needs them. Where other hooks decide
what is kept, such as those of gradient checkpointing, they do; a `Watcher` decides nothing.

Source: https://pytorch.org/docs/stable/autograd.html#saved-tensors-default-hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorakit.functional import experts
from lorakit.private.torch_names import pack_hook, version_of
from lorakit.variants import ParameterSite


@dataclass(frozen=True)
class Recipe:
    """What a weight W' is computed from."""

    weight: Tensor
    a: Tensor
    b: Tensor
    scaling: float
    site: ParameterSite

    @property
    def versions(self) -> tuple[int, ...]:
        """A number for each tensor, which a change in place raises."""
        return tuple(map(version_of, (self.weight, self.a, self.b)))

    def computed(self) -> Tensor:
        """W', in the type of W."""
        return experts.updated(self.weight, self.a, self.b, self.scaling, self.site.transposed)

    def block(self, start: int, stop: int) -> Tensor:
        """The experts [start, stop) of W'; all of it where it is one matrix."""
        found = self.site.block(self.a, self.b, start, stop) if self.site.experts else None
        if found is None:
            return self.computed()
        _, (a, b) = found
        part = self.weight[start:stop]
        return experts.updated(part, a, b, self.scaling, self.site.transposed)


@dataclass(frozen=True)
class _Read:
    """A part of W', by where it lies in the memory of W'."""

    recipe: Recipe
    versions: tuple[int, ...]
    size: torch.Size
    stride: tuple[int, ...]
    offset: int

    def tensor(self) -> Tensor:
        """That part, computed again; raises RuntimeError as autograd does after a change."""
        if self.recipe.versions != self.versions:
            raise RuntimeError(
                "the weight or the adapter of experts, which backward needs, was changed in place "
                "since the forward"
            )
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        matrix = self.recipe.site.in_features * self.recipe.site.out_features
        first = self.offset // matrix
        block = self.recipe.block(first, last // matrix + 1)
        return block.as_strided(self.size, self.stride, self.offset - first * matrix)


@dataclass(frozen=True)
class Watcher:
    """A hook that packs a tensor as itself, and sees so what autograd keeps."""

    see: Callable[[Tensor], Tensor]
    """Gives what is kept: the tensor, or another one of its storage."""

    def __call__(self, tensor: Tensor) -> Tensor:
        return self.see(tensor)


def recomputed(made: Iterable[tuple[Tensor, Recipe]]) -> AbstractContextManager[Any]:
    """Inside, autograd keeps the recipes of these weights in their place."""
    if torch.compiler.is_compiling():
        return nullcontext()
    outer = pack_hook()
    if not isinstance(outer, Watcher | None):
        return nullcontext()
    recipes = {id(w.untyped_storage()): recipe for w, recipe in made if w.requires_grad}
    if not recipes:
        return nullcontext()
    versions = {place: recipe.versions for place, recipe in recipes.items()}

    def pack(tensor: Tensor) -> Tensor | _Read:
        place = id(tensor.untyped_storage())
        if place not in recipes or 0 in tensor.shape:
            return tensor if outer is None else outer(tensor)
        size, stride, offset = tensor.size(), tensor.stride(), int(tensor.storage_offset())
        return _Read(recipes[place], versions[place], size, stride, offset)

    return torch.autograd.graph.saved_tensors_hooks(pack, _unpacked)


def _unpacked(kept: Tensor | _Read) -> Tensor:
    return kept.tensor() if isinstance(kept, _Read) else kept
