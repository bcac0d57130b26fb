"""The analysis of an adapter: its matrices, the whole at each rank, and the same beside others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lorakit.analysis import tables
from lorakit.analysis.comparison import (
    Comparison,
    Similarity,
    compared,
    require_same_modules,
    similarities,
)
from lorakit.analysis.matrices import MatrixAnalysis, RankChoice, analysed, rank_choices
from lorakit.analysis.parts import parts_of
from lorakit.analysis.readiness import require_readable
from lorakit.errors import require
from lorakit.variants import ModuleAdapter

Adapters = Mapping[str, ModuleAdapter]
Track = Callable[[Sequence[str]], Iterable[str]]


@dataclass(frozen=True)
class Analysis:
    """All that was found; it prints as tables."""

    matrices: list[MatrixAnalysis]
    """One for each module, slice or group, in the adapter's order."""
    ranks: list[RankChoice]
    """Each rank from 0 to the adapter's largest."""
    comparisons: list[Comparison]
    """One for each adapter that it was compared with."""

    def __str__(self) -> str:
        found = [tables.spectra(self.matrices), tables.choices(self.ranks)]
        if any(matrix.projection for matrix in self.matrices):
            found.append(tables.projections(self.matrices))
        found += map(tables.comparison, self.comparisons)
        return "\n\n".join(map(str, found))


def analyze(
    adapters: Adapters,
    weights: Mapping[str, Tensor] | None = None,
    against: Mapping[str, Adapters] | None = None,
    draws: int = 10,
    seed: int = 0,
    track: Track = iter,
) -> Analysis:
    """The spectra of an adapter, its similarity to others, and the base in its directions.

    `adapters` are values by module name, as `AdapterBundle.adapters` has them. `weights` are the
    base's, by the same names: with them W is projected on the directions of dW. `against` are other
    adapters of the same modules, by any name. Random controls are drawn `draws` times, from `seed`.
    `track` takes the module names and gives them back one by one, as a progress bar does.

    Raises ConfigError if there is nothing to analyse, or an update depends on a weight that is
    missing, and MismatchError for others of other modules.

    >>> import torch
    >>> from lorakit.variants import AdapterSpec, LinearSite
    >>> tensors = {"lora_A": torch.eye(2, 4), "lora_B": torch.eye(4, 2)}
    >>> adapter = ModuleAdapter(AdapterSpec(2, lora_alpha=2), tensors, LinearSite(4, 4))
    >>> analyze({"q": adapter}).matrices[0].spectrum.singular_values
    (1.0, 1.0)
    """
    weights, against = weights or {}, against or {}
    require({f"draws is {draws}; it must be at least 2": draws > 1})
    for one in (adapters, *against.values()):
        require_readable(one, weights)
    for other, theirs in against.items():
        require_same_modules(adapters, other, theirs)
    matrices: list[MatrixAnalysis] = []
    found: dict[str, list[Similarity]] = {other: [] for other in against}
    for name in track(list(adapters)):
        mine = list(parts_of(name, adapters[name], weights.get(name)))
        matrices += [analysed(part, draws, seed) for part in mine]
        for other, theirs in against.items():
            beside = parts_of(name, theirs[name], weights.get(name))
            for here, there in zip(mine, beside, strict=True):
                found[other] += similarities(here, there)
    comparisons = [compared(other, similar, draws, seed) for other, similar in found.items()]
    return Analysis(matrices, rank_choices(matrices), comparisons)
