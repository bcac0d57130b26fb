"""Two adapters of the same modules: which directions they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from lorakit.analysis.parts import Part
from lorakit.analysis.subspaces import Control, control, similarity
from lorakit.errors import MismatchError
from lorakit.layer_groups import group_layers
from lorakit.variants import ModuleAdapter


@dataclass(frozen=True)
class Similarity:
    """phi of the directions of one matrix in both adapters."""

    name: str
    """The matrix's."""
    of: str
    """What the directions are of: A, B, dW's input or dW's output."""
    width: int
    """D, the dimensions of the space that they are in."""
    phi: list[list[float]]
    """phi(i, j) of the first i directions here and the first j there; empty where one has none."""


@dataclass(frozen=True)
class Comparison:
    """An adapter beside another one."""

    other: str
    """The name of that one."""
    similarities: list[Similarity]
    """For each matrix and each kind of directions."""
    controls: list[Control]
    """phi by chance, for each width, up to the largest numbers of directions here and there."""

    def control_of(self, similarity: Similarity) -> Control:
        """The one of its width."""
        return next(one for one in self.controls if one.width == similarity.width)


def similarities(mine: Part, theirs: Part) -> Iterator[Similarity]:
    """phi for each kind of directions that both have."""
    for of, here in mine.directions.items():
        if (there := theirs.directions.get(of)) is not None:
            shared = here.shape[1] and there.shape[1]
            phi = similarity(here, there).tolist() if shared else []
            yield Similarity(mine.name, of, here.shape[0], phi)


def compared(other: str, found: list[Similarity], draws: int, seed: int) -> Comparison:
    """The similarities with what chance gives."""
    sizes: dict[int, tuple[int, int]] = {}
    for one in (one for one in found if one.phi):
        i, j = sizes.get(one.width, (0, 0))
        sizes[one.width] = max(i, len(one.phi)), max(j, len(one.phi[0]))
    controls = [control(width, i, j, draws, seed) for width, (i, j) in sizes.items()]
    return Comparison(other, found, controls)


def require_same_modules(
    mine: Mapping[str, ModuleAdapter], other: str, theirs: Mapping[str, ModuleAdapter]
) -> None:
    """Raise MismatchError that lists the modules of one adapter alone and those of other parts."""
    problems = [(name, "is not in it") for name in mine if name not in theirs]
    problems += [(name, "is in it alone") for name in theirs if name not in mine]
    for name in (name for name in mine if name in theirs):
        here, there = _parts_text(mine[name]), _parts_text(theirs[name])
        if here != there:
            problems.append((name, f"has {there} in it, here {here}"))
    if problems:
        raise MismatchError(
            f"{other} does not adapt the same modules; choose those that both adapt (--modules "
            "NAME,NAME):",
            group_layers(problems),
        )


def _parts_text(adapter: ModuleAdapter) -> str:
    """The shapes of its matrices, and which rows of a weight in parts they are."""
    if adapter.site is None:
        return "an unknown shape"
    empty = torch.empty(adapter.site.weight_shape, device="meta")
    parts = [(rows, " x ".join(map(str, m.shape))) for rows, m in adapter.site.parts(empty)]
    if len(parts) == 1 and adapter.site.slices is None:
        return parts[0][1]
    return " and ".join(f"{shape} in [{rows[0]}:{rows[1]}]" for rows, shape in parts)
