"""Which metrics a table shows of a result, and in which unit."""

from __future__ import annotations

import pytest

from lorakit.experiments.headlines import headlines, metric_problem, shown_metric
from lorakit.tasks.registry import TASKS


@pytest.mark.parametrize("task", ["dart", "webnlg", "data_to_text"])
@pytest.mark.parametrize("wanted", [(), ("bleu", "ter")])
def test_bleu_is_written_in_per_cent_whatever_its_script_prints(task: str, wanted) -> None:
    metrics = {"bleu": 47.12, "ter": 0.461, "bleu_seen": 62.0}
    found = headlines(task, metrics, wanted)
    assert shown_metric("bleu").text(found["bleu"]) == "47.1"
    if "bleu_seen" in found:
        assert shown_metric("bleu_seen").text(found["bleu_seen"]) == "62.0"
    if "ter" in found:
        assert shown_metric("ter").text(found["ter"]) == "46.1"


def test_e2es_bleu_is_a_share_already() -> None:
    assert shown_metric("bleu").text(headlines("e2e", {"bleu": 0.704})["bleu"]) == "70.4"


def test_each_metric_of_a_task_is_written_with_a_title_and_in_its_unit() -> None:
    names = {name.replace("*", "PER") for spec in TASKS.values() for name in spec.metrics}
    names = {name for name in names if not name.startswith("mismatched_")}
    untitled = {name for name in names if shown_metric(name).title == name}
    assert untitled == {"accuracy", "perplexity"}
    assert shown_metric("f1_binary").text(0.885) == "88.5"
    assert shown_metric("f1_PER").title == "F1 PER"


@pytest.mark.parametrize(
    ("task", "metric", "known"),
    [
        ("sst2", "loss", True),
        ("sst2", "f1", False),
        ("webnlg", "bleu_unseen", True),
        ("webnlg", "bleu_unsen", False),
    ],
)
def test_a_metric_that_a_task_does_not_have_is_a_problem(task, metric, known) -> None:
    assert (metric_problem(task, metric) is None) == known
