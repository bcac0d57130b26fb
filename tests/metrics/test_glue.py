"""The averages of microsoft/LoRA's README, from the rows of its table."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.metrics.glue import AVERAGED, glue_average, glue_headline

# MNLI matched / mismatched, then SST-2, MRPC, CoLA, QNLI, QQP, RTE, STS-B (Pearson).
ROBERTA_LORA = [(87.5, 86.9), 95.1, 89.7, 63.4, 93.3, 90.8, 86.6, 91.5]
ROBERTA_FULL = [(87.6,), 94.8, 90.2, 63.6, 92.8, 91.9, 78.7, 91.2]
XXL_LORA = [(91.9, 91.9), 96.9, 92.6, 72.4, 96.0, 92.9, 94.9, 93.0]
XXL_FULL = [(91.7, 91.9), 97.2, 92.0, 72.0, 96.0, 92.7, 93.9, 92.9]


def metrics(row: list) -> dict[str, dict[str, float]]:
    """The row as results of runs have it, with metrics beside those that count."""
    mnli, *others = row
    found = {"mnli": dict(zip(("accuracy", "mismatched_accuracy"), mnli, strict=False))}
    for task, value in zip(AVERAGED[1:], others, strict=True):
        name = {"cola": "matthews_correlation", "stsb": "pearson"}.get(task, "accuracy")
        found[task] = {"loss": 0.3, "spearman": 1.0, "f1_binary": 2.0, name: value}
    return found


@pytest.mark.parametrize(("row", "published"), [(XXL_LORA, 91.32), (XXL_FULL, 91.06)])
def test_the_readmes_averages_come_out(row, published):
    assert glue_average(metrics(row)) == pytest.approx(published, abs=0.0051)


def test_the_readmes_roberta_average_takes_mnli_matched_alone():
    matched = [ROBERTA_LORA[0][:1], *ROBERTA_LORA[1:]]
    assert glue_average(metrics(matched)) == pytest.approx(87.24, abs=0.0051)
    assert glue_average(metrics(ROBERTA_LORA)) == pytest.approx(87.20, abs=1e-9)


def test_one_of_the_readmes_averages_does_not_follow_from_its_rows():
    assert glue_average(metrics(ROBERTA_FULL)) == pytest.approx(86.35, abs=1e-9)  # there: 86.40


def test_a_missing_task_or_metric_is_named():
    with pytest.raises(ConfigError, match="stsb is missing"):
        glue_average({task: {"accuracy": 1.0} for task in AVERAGED if task != "stsb"})
    with pytest.raises(ConfigError, match="cola lack the metric matthews_correlation"):
        glue_headline("cola", {"accuracy": 1.0})
