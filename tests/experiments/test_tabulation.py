"""A table summarises runs as numpy and scipy do, marks the best, and tests differences."""

from __future__ import annotations

import math
import random
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lorakit.experiments.reading import noise, summary
from lorakit.experiments.statistics import p_value
from lorakit.experiments.table import AVERAGE, Column, Published, Table
from lorakit.experiments.tabulation import Measurement, RowName, Style, tabulate
from lorakit.metrics.glue import AVERAGED

LORA, FULL, HEAD = (RowName("base", name) for name in ("lora", "full", "head"))


def runs(row: RowName, values: list[float], metric="accuracy", task="one", **more: Any):
    return [
        Measurement(row, task, seed, {"task": "t", "metrics": {metric: value}, **more}, f"{seed}")
        for seed, value in enumerate(values)
    ]


def cells(table: Table, column: int = 0):
    return {row.name: row.cells[column] for row in table.rows}


VALUES = [0.81, 0.84, 0.80, 0.90]


@pytest.mark.parametrize(
    ("statistic", "spread", "center", "width"),
    [
        ("mean", "std", np.mean(VALUES), np.std(VALUES, ddof=1)),
        ("median", "std", np.median(VALUES), np.std(VALUES, ddof=1)),
        (
            "mean",
            "ci95",
            np.mean(VALUES),
            np.mean(VALUES) - stats.t.interval(0.95, 3, np.mean(VALUES), stats.sem(VALUES))[0],
        ),
    ],
)
def test_a_cell_is_what_numpy_and_scipy_give(statistic, spread, center, width) -> None:
    style = Style(statistic=statistic, spread=spread)
    cell = cells(tabulate(runs(LORA, VALUES), [LORA], ["one"], style))["lora"]
    assert cell.center == pytest.approx(center, rel=1e-12)
    assert cell.spread == pytest.approx(width, rel=1e-12)
    assert (cell.seeds, cell.values) == ((0, 1, 2, 3), tuple(VALUES))


numbers = st.lists(st.floats(0, 1).map(lambda value: round(value, 6)), min_size=2, max_size=6)


@given(numbers, numbers)
def test_the_test_is_welchs_of_scipy(one: list[float], other: list[float]) -> None:
    found = p_value(one, other)
    if np.std(one) < 1e-9 and np.std(other) < 1e-9:
        assert found in (0.0, 1.0)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about a side without spread
        expected = stats.ttest_ind(one, other, equal_var=False).pvalue
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([0.5], [0.4, 0.3], None), ([0.5, 0.5], [0.5, 0.5], 1.0), ([0.5, 0.5], [0.4, 0.4], 0.0)],
)
def test_values_without_spread_and_single_ones_have_no_warning(one, other, expected) -> None:
    assert p_value(one, other) == expected


def test_the_best_is_marked_and_what_noise_could_explain() -> None:
    found = runs(LORA, [0.90, 0.91, 0.92]) + runs(FULL, [0.89, 0.93, 0.90])
    found += runs(HEAD, [0.70, 0.71, 0.69])
    table = tabulate(found, [HEAD, LORA, FULL], ["one"], Style(reference="lora"))
    by = cells(table)
    assert [name for name, cell in by.items() if cell.is_best] == ["lora"]
    assert by["lora"].p_value is None
    assert by["full"].is_noise
    assert by["full"].p_value == pytest.approx(
        stats.ttest_ind([0.89, 0.93, 0.90], [0.90, 0.91, 0.92], equal_var=False).pvalue
    )
    assert not by["head"].is_noise
    assert by["head"].p_value < 0.05
    assert "differs from lora by what noise could explain (Welch's t-test" in str(noise(table))
    assert summary(table) == "mean ± standard deviation over 3 seeds"


def test_without_a_reference_differences_are_from_the_best() -> None:
    found = runs(LORA, [0.90, 0.91]) + runs(FULL, [0.99, 0.98])
    by = cells(tabulate(found, [LORA, FULL], ["one"], Style()))
    assert by["full"].p_value is None
    assert by["lora"].p_value is not None


@pytest.mark.parametrize(("metric", "best"), [("perplexity", "lora"), ("bleu", "full")])
def test_the_best_is_the_lowest_where_that_is_better(metric: str, best: str) -> None:
    found = runs(LORA, [3.0, 4.0], metric) + runs(FULL, [5.0, 6.0], metric)
    by = cells(tabulate(found, [LORA, FULL], ["one"], Style()))
    assert [name for name, cell in by.items() if cell.is_best] == [best]


def test_equal_rows_are_all_the_best() -> None:
    found = runs(LORA, [0.5, 0.7]) + runs(FULL, [0.7, 0.5])
    by = cells(tabulate(found, [LORA, FULL], ["one"], Style(reference="lora")))
    assert by["lora"].is_best
    assert by["full"].is_best
    assert by["full"].is_noise


def test_each_base_has_a_best_and_a_reference_of_its_own() -> None:
    other = RowName("other", "lora")
    found = runs(LORA, [0.9, 0.8]) + runs(other, [0.3, 0.4])
    table = tabulate(found, [LORA, other], ["one"], Style(reference="lora"))
    assert [row.cells[0].is_best for row in table.rows] == [True, True]
    assert [row.cells[0].p_value for row in table.rows] == [None, None]


def test_one_seed_has_neither_spread_nor_test_nor_note() -> None:
    found = runs(LORA, [0.9]) + runs(FULL, [0.8])
    table = tabulate(found, [LORA, FULL], ["one"], Style(reference="lora"))
    assert [(c.spread, c.p_value, c.is_noise) for c in cells(table).values()] == [
        (None, None, False)
    ] * 2
    assert noise(table) is None
    assert summary(table) is None


def test_a_loss_that_is_not_finite_is_never_the_best() -> None:
    found = runs(LORA, [math.nan]) + runs(FULL, [0.1])
    by = cells(tabulate(found, [LORA, FULL], ["one"], Style()))
    assert not by["lora"].is_best
    assert by["full"].is_best


@pytest.mark.parametrize(
    ("statistic", "spread"), [("mean", "std"), ("mean", "ci95"), ("median", "std")]
)
def test_a_seed_that_is_not_finite_leaves_its_cell_without_a_number(statistic, spread) -> None:
    found = runs(LORA, [0.4, math.nan, 0.9]) + runs(FULL, [0.1, 0.2, 0.3])
    style = Style(statistic, spread, reference="lora")
    by = cells(tabulate(found, [LORA, FULL], ["one"], style))
    assert math.isnan(by["lora"].center)
    assert by["lora"].spread is None
    assert by["full"].spread > 0
    assert [cell.p_value for cell in by.values()] == [None, None]
    assert [cell.is_best for cell in by.values()] == [False, True]


def test_what_is_missing_and_what_failed_is_counted() -> None:
    missing = Measurement(LORA, "one", 8, None, "here")
    failed = replace(missing, seed=9, error="no room")
    table = tabulate([*runs(LORA, [0.5]), missing, failed], [LORA, FULL], ["one"], Style())
    by = cells(table)
    assert (by["lora"].missing, by["lora"].failed, by["lora"].values) == (1, 1, (0.5,))
    assert by["full"].center is None
    assert [(f.name, f.error) for f in table.failures] == [("base/one/lora seed 9", "no room")]


def test_a_row_has_the_costs_of_its_runs() -> None:
    costs = {"trainable_parameters": 8, "adapter_bytes": 70, "seconds": 3.0, "peak_memory_bytes": 5}
    more = {"trainable_parameters": 9, "adapter_bytes": 60, "seconds": 5.0, "peak_memory_bytes": 4}
    found = [*runs(LORA, [0.5], **costs), *runs(LORA, [0.6], task="two", **more)]
    (row,) = tabulate(found, [LORA], ["one", "two"], Style()).rows
    assert (row.trainable_parameters, row.adapter_bytes) == (9, 70)
    assert (row.seconds, row.peak_memory_bytes) == (4.0, 5)


def test_answers_that_look_at_no_text_are_rows_of_no_base_and_never_the_best() -> None:
    majority = {"answer": "majority class", "metric": "accuracy", "value": 0.9}
    found = [
        Measurement(LORA, task, 0, {**result, "baseline": majority}, "")
        for task, result in (
            ("one", {"task": "t", "metrics": {"accuracy": 0.5}}),
            ("two", {"task": "t", "metrics": {"accuracy": 0.6}}),
        )
    ]
    table = tabulate(found, [LORA], ["one", "two"], Style())
    assert [(row.name, row.base) for row in table.rows] == [
        ("majority class", ""),
        ("lora", "base"),
    ]
    assert [cell.center for cell in table.rows[0].cells] == [0.9, 0.9]
    assert [row.cells[0].is_best for row in table.rows] == [False, True]


def test_data_to_text_has_its_five_metrics() -> None:
    metrics = {"bleu": 0.6, "nist": 8.0, "nist_mteval": 7.9, "rouge_l": 0.7, "cider": 2.4}
    result = {"task": "e2e", "metrics": metrics}
    table = tabulate([Measurement(LORA, "e2e", 0, result, "")], [LORA], ["e2e"], Style())
    assert [c.metric for c in table.columns] == ["bleu", "nist", "rouge_l", "cider"]
    result["metrics"] = {**metrics, "meteor": 0.4}
    table = tabulate([Measurement(LORA, "e2e", 0, result, "")], [LORA], ["e2e"], Style())
    assert [c.metric for c in table.columns] == ["bleu", "nist", "meteor", "rouge_l", "cider"]


def test_metrics_that_are_named_stand_in_place_of_the_usual_ones() -> None:
    result = {"task": "mrpc", "metrics": {"accuracy": 0.8, "f1": 0.9, "loss": 1.0}}
    style = Style(metrics={"one": ["f1", "loss", "none"]})
    table = tabulate([Measurement(LORA, "one", 0, result, "")], [LORA], ["one"], style)
    assert table.columns == (Column("one", "f1"), Column("one", "loss"))


def test_published_figures_stand_in_their_cells_before_anything_was_run() -> None:
    figure = Published(0.875, 0.003, "a table")
    style = Style(published={(LORA, "mnli", "accuracy"): figure})
    table = tabulate([], [LORA, FULL], ["mnli"], style)
    assert table.columns == (Column("mnli", "accuracy"),)
    assert [row.cells[0].published for row in table.rows] == [figure, None]


def test_glues_eight_tasks_have_their_average() -> None:
    found = []
    for place, task in enumerate(AVERAGED):
        metrics = {"accuracy": 0.1, "matthews_correlation": 0.1, "pearson": 0.1}
        value = dict.fromkeys(metrics, 0.5 + place / 100)
        found.append(Measurement(LORA, task, 0, {"task": task, "metrics": value}, ""))
        if task != "rte":
            found.append(Measurement(FULL, task, 0, {"task": task, "metrics": value}, ""))
    table = tabulate(found, [LORA, FULL], list(AVERAGED), Style())
    assert table.columns[-1] == AVERAGE
    by = cells(table, -1)
    assert by["lora"].center == pytest.approx(0.535)
    assert by["full"].center is None, "one of its tasks is missing"


def test_the_average_takes_both_sets_of_mnli_and_one_number_of_each_task() -> None:
    """Whatever else the table shows of a task."""
    metrics = dict.fromkeys(("accuracy", "matthews_correlation", "pearson", "spearman"), 0.5)
    results = {task: {"task": task, "metrics": dict(metrics)} for task in AVERAGED}
    results["mnli"]["metrics"] = {"accuracy": 0.6, "mismatched_accuracy": 0.8}
    results["stsb"]["metrics"]["spearman"] = 0.9
    found = [Measurement(LORA, task, 0, result, "") for task, result in results.items()]
    named = {"mnli": ["accuracy", "mismatched_accuracy"], "stsb": ["pearson", "spearman"]}
    table = tabulate(found, [LORA], list(AVERAGED), Style(metrics=named))
    assert len(table.columns) == 11
    assert cells(table, -1)["lora"].center == pytest.approx((0.7 + 7 * 0.5) / 8)


def test_the_average_takes_no_other_column_of_a_task() -> None:
    results = {task: {"task": task, "metrics": {"accuracy": 0.5}} for task in AVERAGED}
    results["cola"]["metrics"] = {"matthews_correlation": 0.5}
    results["stsb"]["metrics"] = {"pearson": 0.5}
    found = [Measurement(LORA, task, 0, result, "") for task, result in results.items()]
    small = {"task": "mnli", "metrics": {"accuracy": 0.1}}
    found.append(Measurement(LORA, "mnli small", 0, small, "small"))
    table = tabulate(found, [LORA], [*AVERAGED, "mnli small"], Style())
    assert cells(table, -1)["lora"].center == pytest.approx(0.5)


@given(st.lists(numbers, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_runs_changes_nothing(groups, order: random.Random) -> None:
    rows = [RowName("base", str(place)) for place in range(len(groups))]
    found = [run for row, values in zip(rows, groups, strict=True) for run in runs(row, values)]
    table = tabulate(found, rows, ["one"], Style(reference="0"))
    order.shuffle(found)
    assert tabulate(found, rows, ["one"], Style(reference="0")) == table


@given(numbers, st.floats(0.5, 2))
def test_center_and_spread_follow_the_unit(values: list[float], unit: float) -> None:
    for spread in ("std", "ci95"):
        style = Style(spread=spread)
        one = cells(tabulate(runs(LORA, values), [LORA], ["one"], style))["lora"]
        scaled = [value * unit for value in values]
        other = cells(tabulate(runs(LORA, scaled), [LORA], ["one"], style))["lora"]
        assert other.center == pytest.approx(one.center * unit, abs=1e-12)
        assert other.spread == pytest.approx(one.spread * unit, abs=1e-9)
