"""Tables of few and of many matrices."""

from __future__ import annotations

import pytest

from lorakit.analysis import analyze, tables
from lorakit.analysis.groups import band, grouped
from lorakit.variants import LinearSite
from tests.analysis.adapters import SITES, random_adapter, random_weight
from tests.analysis.test_overview import layers


def test_few_matrices_are_listed_one_by_one() -> None:
    listed = tables.spectra(analyze(layers(3)).matrices)
    assert [row[0] for row in listed.rows] == [*layers(3)]
    assert listed.title.startswith("Updates dW of 6 modules, ||dW|| ")


def test_many_matrices_are_listed_by_kind_with_their_layers() -> None:
    found = analyze(layers(20)).matrices
    rows = tables.spectra(found).rows
    assert [row[0] for row in rows] == ["layer.{0-19}.q", "layer.{0-19}.v"]
    norms = [matrix.spectrum.norm for matrix in found if matrix.name.endswith("q")]
    assert rows[0][3] == f"{min(norms):.3g} to {max(norms):.3g}"


def test_layers_of_another_rank_or_shape_are_listed_apart() -> None:
    adapters = layers(20) | {"layer.3.q": random_adapter(LinearSite(6, 5), 4)}
    names = [row[0] for row in tables.spectra(analyze(adapters).matrices).rows]
    assert names == ["layer.{0-2,4-19}.q", "layer.{0-19}.v", "layer.3.q"]


def test_names_with_two_numbers_are_one_kind() -> None:
    names = [f"layer.{n}.experts.{m}.w" for n in range(6) for m in range(5)]
    (group,) = grouped(names, str, len)
    assert (group.name, len(group.members)) == ("layer.*.experts.*.w (30)", 30)


def test_parts_are_counted_beside_their_modules() -> None:
    adapters = {"qkv": random_adapter(SITES["slices"])}
    title = tables.spectra(analyze(adapters).matrices).title
    assert title.startswith("Updates dW of 2 matrices of 1 module,")


@pytest.mark.parametrize(
    ("most", "ranks"),
    [(5, [1, 2, 3, 4, 5]), (20, [1, 2, 4, 8, 16, 20]), (32, [1, 2, 4, 8, 16, 32])],
)
def test_choices_are_all_ranks_or_the_powers_of_two(most: int, ranks: list[int]) -> None:
    found = analyze({"m": random_adapter(LinearSite(40, 40), most)})
    rows = tables.choices(found.ranks).rows
    assert [int(row[0]) for row in rows] == ranks
    assert rows[-1][1:] == ("0.0000", "0.0000")


def test_projections_show_the_base_beside_chance() -> None:
    weights = {name: random_weight(LinearSite(6, 5)) for name in layers(1)}
    found = analyze(layers(1), weights)
    projected = found.matrices[0].projection
    assert projected is not None
    row = tables.projections(found.matrices).rows[0]
    assert row[:3] == ("layer.0.q", "2", f"{projected.weight_norm:.3g}")
    assert row[-1] == f"{projected.amplification:.3g}"
    assert " ± " in row[5]
    assert "amplification" in str(found)


def test_comparison_shows_phi_of_the_first_and_of_all_directions() -> None:
    found = analyze(layers(1), against={"runs/r3": layers(1, 3, seed=1)})
    listed = tables.comparison(found.comparisons[0])
    similar = found.comparisons[0].similarities[0]
    row = listed.rows[0]
    assert listed.title.startswith("Against runs/r3:")
    assert row[:3] == ("layer.0.q", "A", f"{similar.phi[0][0]:.3g}")
    assert row[4:6] == ("2, 3", f"{similar.phi[1][2]:.3g}")
    assert [row[1] for row in listed.rows[:4]] == ["A", "B", "dW, input", "dW, output"]


def test_a_band_of_equal_texts_is_one() -> None:
    assert band([0.12341, 0.12339]) == "0.123"
