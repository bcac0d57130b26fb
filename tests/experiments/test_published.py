"""Published figures: read in the table's unit, and each mistake in them named."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.experiments.published import published_figures
from lorakit.experiments.sweep_file import planned
from lorakit.experiments.table import Published
from tests.experiments.sweeps import sweep

TASKS = {"mnli": None, "e2e": None, "cola": None}
ENTRY = {"method": "lora", "source": "a table", "values": {"mnli": 87.5}}


def figures(tmp_path: Path, *entries, **changes):
    problems: list[str] = []
    mapping = sweep(tmp_path, **{"tasks": TASKS, "published": list(entries), **changes})
    found = published_figures(planned(mapping), problems)
    return {(row.base, row.name, task, metric): f for (row, task, metric), f in found.items()}, [
        *problems
    ]


@pytest.mark.parametrize(
    ("figure", "value", "spread"),
    [
        (87.5, 0.875, None),
        ("87.5 ± 0.3", 0.875, 0.003),
        ("87.5+-.3", 0.875, 0.003),
        (87, 0.87, None),
    ],
)
def test_a_figure_is_a_number_with_or_without_its_spread(tmp_path, figure, value, spread) -> None:
    found, problems = figures(tmp_path, {**ENTRY, "values": {"mnli": figure}})
    assert problems == []
    (published,) = found.values()
    assert published.value == pytest.approx(value)
    assert published.spread == (None if spread is None else pytest.approx(spread))
    assert published.source == "a table"


def test_figures_are_of_the_headline_or_of_named_metrics(tmp_path: Path) -> None:
    values = {"cola": 63.4, "e2e": {"bleu": 70.4, "nist": 8.85}, "average": 87.2}
    found, problems = figures(tmp_path, {**ENTRY, "values": values})
    assert problems == []
    assert {key[2:]: round(figure.value, 6) for key, figure in found.items()} == {
        ("cola", "matthews_correlation"): 0.634,
        ("e2e", "bleu"): 0.704,
        ("e2e", "nist"): 8.85,
        ("average", "glue"): 0.872,
    }


def test_another_base_has_no_published_figures(tmp_path: Path) -> None:
    bases = {"small": {"base": "s"}, "large": {"base": "l"}}
    entry = {**ENTRY, "base": "small"}
    found, _ = figures(tmp_path, entry, base=None, bases=bases)
    assert found == {("small", "lora", "mnli", "accuracy"): Published(0.875, None, "a table")}
    found, problems = figures(tmp_path, entry)
    assert problems == []
    assert [key[0] for key in found] == ["small"], "which is no row of this sweep"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lroa"}, "published[1].method is 'lroa' (did you mean 'lora'?); it must be a"),
        ({"source": None}, "published[1].source is missing; say where the figures are from"),
        ({"sauce": 1}, "unknown setting published[1].sauce (did you mean 'source'?)"),
        ({"values": {"mnli": "high"}}, "published[1] has 'high' for mnli; write 87.5 or"),
        ({"values": {"mnil": 1}}, "published[1] has a figure for mnil (did you mean 'mnli'?)"),
        ({"values": 3}, "published[1] must be a mapping of method, base, source, values"),
    ],
)
def test_a_mistake_in_a_published_figure_is_named(tmp_path, change, message: str) -> None:
    _, problems = figures(tmp_path, {**ENTRY, **change})
    assert any(message in problem for problem in problems), problems
