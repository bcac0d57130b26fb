"""What is found of one matrix, and of all of them at each rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorakit.analysis.parts import Part
from lorakit.analysis.projection import Projection, projection
from lorakit.analysis.spectrum import Spectrum, spectrum_of


@dataclass(frozen=True)
class MatrixAnalysis:
    """One matrix that the adapter changes."""

    name: str
    """The module's; of several parts each with its rows: attn.c_attn[0:768]."""
    shape: tuple[int, int]
    """(O, I)."""
    rank: int
    """Of the adapter here: the rows of A, or how many rows of a table have values of their own."""
    spectrum: Spectrum
    """Of dW."""
    projection: Projection | None
    """Of the weight on its update, where the base is known and the update is not zero."""


@dataclass(frozen=True)
class RankChoice:
    """What is lost if every update is cut to one `rank`."""

    rank: int
    error: float
    """Of all updates together: ||dW - dW_k||_F / ||dW||_F over the whole adapter."""
    worst_error: float
    """Of the matrix that loses most of its own."""


def analysed(part: Part, draws: int, seed: int) -> MatrixAnalysis:
    """The spectrum of the update, and the projection of the weight on it."""
    spectrum, rank, projected = spectrum_of(part.update.values_K), part.update_rank, None
    if part.weight is not None and rank:
        projected = projection(part.weight, part.update, rank, draws, seed)
    return MatrixAnalysis(part.name, part.shape, part.rank, spectrum, projected)


def rank_choices(matrices: Sequence[MatrixAnalysis]) -> list[RankChoice]:
    """The errors at each rank from 0 to the adapter's largest."""
    whole = sum(matrix.spectrum.norm**2 for matrix in matrices)
    choices = []
    for rank in range(max(matrix.rank for matrix in matrices) + 1):
        errors = [matrix.spectrum.error_at(rank) for matrix in matrices]
        lost = sum((e * m.spectrum.norm) ** 2 for e, m in zip(errors, matrices, strict=True))
        choices.append(RankChoice(rank, (lost / whole) ** 0.5 if whole else 0.0, max(errors)))
    return choices
