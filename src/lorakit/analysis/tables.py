"""An analysis as tables, for a terminal and for a page.

Many layers are one row, with the least and the greatest value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorakit.analysis.comparison import Comparison, Similarity
from lorakit.analysis.groups import Group, band, grouped
from lorakit.analysis.matrices import MatrixAnalysis, RankChoice
from lorakit.analysis.spectrum import ERRORS
from lorakit.text import plural, table

Row = Sequence[str]

ALL_RANKS = 16
"""Up to which rank each one is listed, above it the powers of two."""
_NONE = "-"


@dataclass(frozen=True)
class Listed:
    """What a table says, its heads and its rows."""

    title: str
    head: Row
    rows: Sequence[Row]

    def __str__(self) -> str:
        return "\n".join([self.title, *table([self.head, *self.rows])])


def spectra(matrices: Sequence[MatrixAnalysis]) -> Listed:
    """The size and the spectrum of each update."""
    norm = sum(matrix.spectrum.norm**2 for matrix in matrices) ** 0.5
    return Listed(
        f"Updates dW of {count_text(matrices)}, ||dW|| {norm:.4g} in all; r for 10%: the least "
        "rank whose error is at most that",
        (
            *("matrix", "out x in", "rank", "||dW||", "effective rank", "stable rank"),
            *(f"r for {error:.0%}" for error in ERRORS),
        ),
        [_spectrum_row(group) for group in _kinds(matrices)],
    )


def _spectrum_row(group: Group[MatrixAnalysis]) -> Row:
    first, spectra = group.members[0], [matrix.spectrum for matrix in group.members]
    return (
        group.name,
        " x ".join(map(str, first.shape)),
        str(first.rank),
        band(spectrum.norm for spectrum in spectra),
        band(spectrum.effective_rank for spectrum in spectra),
        band(spectrum.stable_rank for spectrum in spectra),
        *(band(spectrum.sufficient_ranks[error] for spectrum in spectra) for error in ERRORS),
    )


def choices(ranks: Sequence[RankChoice]) -> Listed:
    """What is lost at each rank."""
    shown = few_ranks(ranks[-1].rank)
    return Listed(
        "Error if every update is cut to a rank: ||dW - dW_k|| / ||dW||",
        ("rank", "error", "of the worst matrix"),
        [
            (str(choice.rank), f"{choice.error:.4f}", f"{choice.worst_error:.4f}")
            for choice in ranks
            if choice.rank in shown
        ],
    )


def few_ranks(most: int) -> list[int]:
    """The ranks from 1 on; of many the powers of two, and the last.

    >>> few_ranks(3), few_ranks(20)
    ([1, 2, 3], [1, 2, 4, 8, 16, 20])
    """
    ranks = range(1, most + 1)
    return [n for n in ranks if most <= ALL_RANKS or n == most or n.bit_count() == 1]


def projections(matrices: Sequence[MatrixAnalysis]) -> Listed:
    """The base in the directions of its update, of itself and of chance."""
    return Listed(
        "Base: ||U^T W V|| with the first k singular vectors U, V of dW, of W, and random ones; "
        "amplification: ||dW|| / ||U^T W V|| with those of dW",
        ("matrix", "k", "||W||", "of dW", "of W", "random", "amplification"),
        [_projection_row(group) for group in _kinds(matrices)],
    )


def _projection_row(group: Group[MatrixAnalysis]) -> Row:
    found = [matrix.projection for matrix in group.members if matrix.projection]
    if not found:
        return (group.name, "0", *[_NONE] * 5)
    amplified = [one.amplification for one in found if one.amplification is not None]
    return (
        group.name,
        band(one.rank for one in found),
        band(one.weight_norm for one in found),
        band(one.on_update for one in found),
        band(one.on_weight for one in found),
        _chance([(one.on_random, one.on_random_deviation) for one in found]),
        band(amplified) if amplified else _NONE,
    )


def comparison(compared: Comparison) -> Listed:
    """phi of the first directions, and of all of them."""
    groups = grouped(
        compared.similarities,
        lambda one: one.name,
        lambda one: (one.of, one.width, _size(one)),
    )
    return Listed(
        f"Against {compared.other}: phi(i, j), how much of the first i directions here and of the "
        "first j there is shared",
        ("matrix", "directions of", "phi(1, 1)", "random", "i, j", "phi(i, j)", "random"),
        [_comparison_row(group, compared) for group in groups],
    )


def _comparison_row(group: Group[Similarity], compared: Comparison) -> Row:
    first, found = group.members[0], [one.phi for one in group.members]
    if not first.phi:
        return (group.name, first.of, *[_NONE] * 5)
    i, j = _size(first)
    control = compared.control_of(first)
    at_first, at_all = (
        _chance([(control.mean[m][n], control.deviation[m][n])])
        for m, n in ((0, 0), (i - 1, j - 1))
    )
    return (
        group.name,
        first.of,
        band(phi[0][0] for phi in found),
        at_first,
        f"{i}, {j}",
        band(phi[-1][-1] for phi in found),
        at_all,
    )


def _chance(draws: Sequence[tuple[float, float]]) -> str:
    """Means with the largest standard deviation among them."""
    return f"{band(mean for mean, _ in draws)} ± {max(spread for _, spread in draws):.2g}"


def _kinds(matrices: Sequence[MatrixAnalysis]) -> list[Group[MatrixAnalysis]]:
    return grouped(matrices, lambda one: one.name, lambda one: (one.shape, one.rank))


def _size(similarity: Similarity) -> tuple[int, int]:
    return len(similarity.phi), len(similarity.phi[0]) if similarity.phi else 0


def count_text(matrices: Sequence[MatrixAnalysis]) -> str:
    """How many there are, and in how many modules where that is another number."""
    modules = {matrix.name.partition("[")[0] for matrix in matrices}
    if len(modules) == len(matrices):
        return plural(len(modules), "module")
    return f"{len(matrices):,} matrices of {plural(len(modules), 'module')}"
