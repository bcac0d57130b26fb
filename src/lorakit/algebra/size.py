"""How large an adapter shall be: of one rank, or as large as a share of its energy takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lorakit.config.lora_config import LARGEST_RANK
from lorakit.config.values import is_number, is_whole
from lorakit.errors import ConfigError
from lorakit.variants import Site


@dataclass(frozen=True)
class Size:
    """One of the two."""

    rank: int | None = None
    """The rank of every module."""
    energy: float | None = None
    """The share of each module's ||dW||^2 that its own rank keeps, above 0 and at most 1."""

    def __post_init__(self) -> None:
        problems = []
        if (self.rank is None) == (self.energy is None):
            problems.append("pass rank or energy, one of the two")
        if self.rank is not None and not (is_whole(self.rank, 1) and self.rank <= LARGEST_RANK):
            problems.append(
                f"rank is {self.rank!r}; it must be an integer from 1 to {LARGEST_RANK}"
            )
        if self.energy is not None and not (is_number(self.energy) and 0 < self.energy <= 1):
            problems.append(f"energy is {self.energy!r}; it must be above 0 and at most 1")
        if problems:
            raise ConfigError("This size of an adapter cannot be used:", problems)

    def rank_of(self, site: Site, spectra: Sequence[Tensor], most: int) -> int:
        """The rank at a site whose pairs have these singular values; by energy, up to `most`."""
        if self.rank is not None:
            return self.rank
        assert self.energy is not None
        energies = [values.square() for values in spectra]
        enough = self.energy * sum(float(values.sum()) for values in energies)
        fitting = [r for r in range(1, most + 1) if site.rank_problem(r) is None]
        for r in fitting:
            if sum(float(values[: site.pair_rank(r)].sum()) for values in energies) >= enough:
                return r
        return fitting[-1]


def size_of(rank: int | None, energy: float | None) -> Size | None:
    """The size that was asked for, if any."""
    return None if rank is None and energy is None else Size(rank, energy)
