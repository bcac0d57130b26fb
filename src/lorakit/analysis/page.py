"""An analysis as a page: its tables, and the pictures of the paper's section 7."""

from __future__ import annotations

from collections.abc import Sequence

from lorakit.analysis import pictures, tables
from lorakit.analysis.comparison import Comparison
from lorakit.analysis.overview import Analysis
from lorakit.analysis.spectrum import ERRORS
from lorakit.analysis.tables import Listed
from lorakit.pages import Cell, Note, Page, Section, Table

_NOTES = (
    Note(
        "phi, the projection on W and the amplification are those of LoRA's section 7. phi is 1 "
        "where the smaller subspace lies in the larger one, max(i, j) / D on average for random "
        "ones in D dimensions.",
        "https://arxiv.org/abs/2106.09685",
    ),
    Note(
        "The effective rank is exp of the entropy of the singular values, each over their sum (Roy "
        "and Vetterli, EUSIPCO 2007); the stable rank is ||dW||^2 over the largest one squared. "
        "||.|| is Frobenius' norm.",
    ),
)


def analysis_page(
    analysis: Analysis, adapter: str, provenance: Sequence[tuple[str, str]] = ()
) -> Page:
    """`analysis` as a page; `adapter` is its name in titles, and `provenance` says what made it."""
    matrices = analysis.matrices
    sections = [
        Section(
            "Updates",
            [pictures.errors(matrices), pictures.effective_ranks(matrices)],
        ),
        Section("Which rank would have done", [_table(tables.choices(analysis.ranks))]),
        Section("Each update", [_table(tables.spectra(matrices))]),
    ]
    if any(matrix.projection for matrix in matrices):
        figures = pictures.amplifications(matrices), pictures.projections(matrices)
        table = _table(tables.projections(matrices))
        sections.append(Section("The base in the directions of its update", [*figures, table]))
    sections += [_beside(compared) for compared in analysis.comparisons]
    return Page(f"Analysis of {adapter}", _lead(analysis), sections, _NOTES, provenance)


def _beside(compared: Comparison) -> Section:
    maps = pictures.similarities(compared)
    return Section(f"Beside {compared.other}", [*maps, _table(tables.comparison(compared))])


def _lead(analysis: Analysis) -> str:
    enough = [
        f"{choice.rank} for {error:.0%}"
        for error in ERRORS
        for choice in [next(one for one in analysis.ranks if one.error <= error)]
    ]
    return (
        f"{tables.count_text(analysis.matrices)}, of rank {analysis.ranks[-1].rank} at most. The "
        f"least rank for an error of all updates together: {', '.join(enough)}."
    )


def _table(listed: Listed) -> Table:
    return Table(listed.title, listed.head, [[_cell(text) for text in row] for row in listed.rows])


def _cell(text: str) -> Cell:
    """With its number, or the first of a band, to sort by."""
    try:
        return Cell(text, float(text.split(" ")[0]))
    except ValueError:
        return Cell(text)
