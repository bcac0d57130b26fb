"""The figures of an analysis: spectra, the base in the update's directions, shared directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import TypeVar

import torch

from lorakit.analysis.comparison import Comparison, Similarity
from lorakit.analysis.matrices import MatrixAnalysis
from lorakit.analysis.tables import ALL_RANKS, few_ranks
from lorakit.injection.selection.naming import layer_index
from lorakit.layer_groups import without_indices
from lorakit.pages import Figure
from lorakit.pages.figures import Axis, Panel, Point, Series, heat_map, lines

T = TypeVar("T", MatrixAnalysis, Similarity)
Kinds = dict[str, list[T]]


def errors(matrices: Sequence[MatrixAnalysis]) -> Figure:
    """The error of each rank, for each kind of matrix."""
    most = max(matrix.rank for matrix in matrices)
    ranks = few_ranks(most)
    series = [
        Series(name, [_over(rank, [m.spectrum.error_at(rank) for m in kind]) for rank in ranks])
        for name, kind in _kinds(matrices).items()
    ]
    half = ranks[len(ranks) // 2]
    return Figure(
        "Error of an update cut to rank k, ||dW - dW_k|| / ||dW||: the mean of each kind of "
        "matrix, from its least to its greatest.",
        f"At rank {half}: {_in_words(series, half)}.",
        [lines(series, Axis("rank k", log=most > ALL_RANKS), Axis("error", low=0, high=1))],
    )


def effective_ranks(matrices: Sequence[MatrixAnalysis]) -> Figure:
    """The effective rank by layer."""
    series = _by_layer(matrices, lambda matrix: matrix.spectrum.effective_rank)
    return Figure(
        "Effective rank of each update.",
        f"From layer to layer: {_ranges(series)}.",
        [lines(series, Axis("layer"), Axis("effective rank", low=0))],
    )


def amplifications(matrices: Sequence[MatrixAnalysis]) -> Figure:
    """The amplification by layer."""
    series = _by_layer(matrices, _amplification)
    return Figure(
        "Amplification: how much larger the update is than the base in its directions.",
        f"From layer to layer: {_ranges(series)}.",
        [lines(series, Axis("layer"), Axis("||dW|| / ||U^T W V||", log=True))],
    )


def projections(matrices: Sequence[MatrixAnalysis]) -> Figure:
    """||U^T W V|| by layer, a panel for each kind of matrix."""
    kinds = _kinds([matrix for matrix in matrices if matrix.projection])
    norms = {name: _norms(kind) for name, kind in kinds.items()}
    return Figure(
        "How much of the base lies in the directions of its update, in as many of its own, and in "
        "random ones.",
        "; ".join(f"{name}: {_ranges(series)}" for name, series in norms.items()) + ".",
        [
            lines(series, Axis("layer"), Axis("||U^T W V||", log=True), name)
            for name, series in norms.items()
        ],
    )


def similarities(compared: Comparison) -> list[Figure]:
    """Maps of phi for each kind of directions: a panel for each kind of matrix, and chance."""
    found = [one for one in compared.similarities if one.phi]
    sides = dict.fromkeys(one.of for one in found)
    return [_maps(of, [one for one in found if one.of == of], compared) for of in sides]


def _maps(of: str, found: Sequence[Similarity], compared: Comparison) -> Figure:
    panels, said = [], []
    for name, kind in _kinds(found).items():
        phi = _mean_phi(kind)
        panels.append(_map(phi, name))
        said.append(f"{name} {phi[0][0]:.2f} at (1, 1) and {phi[-1][-1]:.2f} at the end")
    widths = {one.width: one for one in found}
    for control in map(compared.control_of, widths.values()):
        panels.append(_map(control.mean, f"random, D = {control.width}"))
        said.append(f"random {control.mean[0][0]:.2f} and {control.mean[-1][-1]:.2f}")
    return Figure(
        f"Directions of {of}: phi(i, j) of the first i here and the first j in {compared.other}, "
        "the mean over the layers.",
        f"{'; '.join(said)}.",
        panels,
    )


def _map(phi: Sequence[Sequence[float]], title: str) -> Panel:
    rows, columns = (list(map(str, _to(size))) for size in (len(phi), len(phi[0])))
    return heat_map(phi, ("i, here", rows), ("j, there", columns), (0, 1), title)


def _mean_phi(kind: Sequence[Similarity]) -> list[list[float]]:
    """The mean over matrices, up to the numbers of directions that all of them have."""
    i, j = (min(sizes) for sizes in zip(*((len(x.phi), len(x.phi[0])) for x in kind), strict=True))
    phi = torch.stack([torch.tensor(one.phi)[:i, :j] for one in kind])
    mean_phi: list[list[float]] = phi.mean(0).tolist()
    return mean_phi


def _norms(kind: Sequence[MatrixAnalysis]) -> list[Series]:
    """Three series, over the layers."""
    layers = {
        layer: [one.projection for one in found if one.projection]
        for layer, found in _layers(kind).items()
    }
    return [
        Series("of dW", [_over(n, [one.on_update for one in x]) for n, x in layers.items()]),
        Series("of W", [_over(n, [one.on_weight for one in x]) for n, x in layers.items()]),
        Series("random", [_over(n, [one.on_random for one in x]) for n, x in layers.items()]),
    ]


def _by_layer(
    matrices: Sequence[MatrixAnalysis], measure: Callable[[MatrixAnalysis], float | None]
) -> list[Series]:
    """A series for each kind of matrix, over its layers."""
    return [
        Series(
            name,
            [
                _over(layer, values)
                for layer, found in _layers(kind).items()
                if (values := [value for x in found if (value := measure(x)) is not None])
            ],
        )
        for name, kind in _kinds(matrices).items()
    ]


def _amplification(matrix: MatrixAnalysis) -> float | None:
    return matrix.projection.amplification if matrix.projection else None


def _over(at: float, values: Sequence[float]) -> Point:
    """Their mean, from the least to the greatest."""
    return Point(at, mean(values), min(values), max(values))


def _layers(kind: Iterable[T]) -> dict[int, list[T]]:
    """By the number of the layer; names without one are layer 0."""
    found: dict[int, list[T]] = {}
    for one in kind:
        found.setdefault(layer_index(one.name) or 0, []).append(one)
    return dict(sorted(found.items()))


def _kinds(found: Sequence[T]) -> Kinds[T]:
    """By the name after the layer's number, or the whole where two stacks have that name."""
    whole = {without_indices(one.name) for one in found}
    short = {name: name.rpartition("*.")[2] for name in whole}
    unique = len(set(short.values())) == len(whole)
    kinds: Kinds[T] = {}
    for one in found:
        name = without_indices(one.name)
        kinds.setdefault(short[name] if unique else name, []).append(one)
    return kinds


def _to(most: int) -> range:
    return range(1, most + 1)


def _in_words(series: Sequence[Series], at: float) -> str:
    return ", ".join(
        f"{one.name} {point.value:.2f}" for one in series for point in one.points if point.at == at
    )


def _ranges(series: Sequence[Series]) -> str:
    return ", ".join(
        f"{one.name} {min(values):.3g} to {max(values):.3g}"
        for one in series
        if (values := [point.value for point in one.points])
    )
