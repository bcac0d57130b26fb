"""Trivial answers: what they score on a test set, and predictions that are no more than one."""

from __future__ import annotations

from itertools import product

from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.metrics.multi_label import multi_label_metrics
from lorakit.tasks.base import Task
from lorakit.tasks.baseline import Baseline, commonest_labels
from lorakit.tasks.classification import Classification
from lorakit.tasks.generation import Generation
from lorakit.tasks.multi_label import MultiLabelClassification
from lorakit.tasks.multiple_choice import MultipleChoice
from lorakit.tasks.regression import Regression

COLUMNS = (("text",), "label", 8)


def baseline(task: Task, test: list, train: list | None = None) -> Baseline | None:
    tables = (Dataset.from_dict({"label": labels}) for labels in (train or test, test))
    return task.baseline(*tables)


def test_the_baseline_of_classes_is_the_most_frequent_of_the_test_set() -> None:
    task = Classification(*COLUMNS, ("a", "b", "c"))
    assert baseline(task, ["b", "a", "b", "c"]) == Baseline("majority class", "accuracy", 0.5)


def test_the_baseline_is_in_the_metric_by_which_the_task_is_judged() -> None:
    task = Classification(*COLUMNS, ("a", "b"), ("matthews_correlation",))
    found = baseline(task, ["b", "a", "b"])
    assert found == Baseline("majority class", "matthews_correlation", 0.0)


def test_the_baseline_of_label_sets_is_the_best_set_for_all_rows() -> None:
    task = MultiLabelClassification(*COLUMNS, ("a", "b"))
    assert baseline(task, [["a"], ["a"], ["a", "b"]]) == Baseline(
        "commonest labels", "f1_micro", 2 * 3 / (3 + 4)
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_no_set_of_labels_is_a_better_answer_to_all(rows: list[list[int]]) -> None:
    def f1(answer: list[int]) -> float:
        return multi_label_metrics([answer] * len(rows), rows)["f1_micro"]

    assert f1(commonest_labels(rows)) == max(f1([*answer]) for answer in product((0, 1), repeat=3))


def test_the_baseline_of_numbers_is_the_mean_of_training() -> None:
    found = baseline(Regression(*COLUMNS), [1.0, 4.0], [1.0, 3.0])
    assert found == Baseline("mean of training", "mse", (1 + 4) / 2, higher_is_better=False)
    assert found.is_beaten_by(2.4)
    assert not found.is_beaten_by(2.5)


def test_a_test_set_of_one_class_can_be_answered_no_better() -> None:
    found = baseline(Classification(*COLUMNS, ("a", "b")), ["a", "a"])
    assert found is not None
    assert found.is_beaten_by(1.0)
    assert not found.is_beaten_by(0.5)


def test_the_baseline_of_choices_is_the_place_that_is_right_most_often() -> None:
    task = MultipleChoice(("question", "x", "y"), "label", 8)
    found = baseline(task, ["y", "1", "0"])
    assert found is not None
    assert (found.metric, found.value) == ("accuracy", 2 / 3)


def test_one_class_for_every_row_is_said() -> None:
    task, test = Classification(*COLUMNS, ("a", "b")), Dataset.from_dict({"label": ["a", "b"]})
    assert task.sameness(["b", "b"], test) == "'b' is the prediction for 2 of 2 rows."
    assert task.sameness(["b", "a"], test) is None
    assert task.sameness(["a", "a"], Dataset.from_dict({"label": ["a", "a"]})) is None


def test_numbers_without_spread_are_said() -> None:
    task, test = Regression(*COLUMNS), Dataset.from_dict({"label": [1.0, 5.0, 3.0]})
    said = task.sameness([2.5, 2.501, 2.5], test)
    assert said == "2.5 is the prediction for each row, or nearly."
    assert task.sameness([2.4, 2.5, 2.6], test) is None


def test_the_same_or_an_empty_text_for_most_rows_is_said() -> None:
    test = Dataset.from_dict({"text": ["p", "q", "r", "s"], "label": ["a", "b", "c", "d"]})
    task = Generation(*COLUMNS)
    assert task.sameness(["", "", "x", ""], test) == "'' is the prediction for 3 of 4 rows."
    assert task.sameness(["a", "b", "x", "y"], test) is None
    yes = Dataset.from_dict({"text": ["p", "q"], "label": ["yes", "yes"]})
    assert task.sameness(["yes", "yes"], yes) is None
