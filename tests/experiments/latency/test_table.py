from __future__ import annotations

import pytest

from lorakit.experiments.latency import Latency, LatencyTable, Spread
from lorakit.experiments.latency.table import spread


def test_a_spread_is_the_median_and_the_quartiles():
    assert spread([4.0, 1.0, 2.0, 3.0, 9.0]) == Spread(3.0, 2.0, 4.0)
    assert spread([4.0]) == Spread(4.0, 4.0, 4.0)
    assert spread([1.0, 2.0]).median == pytest.approx(1.5)


def test_the_table_says_what_was_held_fixed_and_has_a_line_a_cell():
    cell = Latency("BitFit", 1, 64, Spread(20.0, 19.0, 21.5), Spread(1.013, 0.99, 1.02), 7)
    table = LatencyTable(
        "m", "BertModel", 22_713_216, "cpu", "fp32", 2, {"BitFit": 26_112}, (cell,)
    )
    first, _, line = str(table).splitlines()
    assert first.startswith("BertModel of m (22,713,216 parameters, random), fp32, cpu, 2 threads")
    assert line.split()[:4] == ["1", "64", "BitFit", "26,112"]
    assert "20 (19 to 21.5)" in line
    assert "1.01 (0.99 to 1.02)" in line
