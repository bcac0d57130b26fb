"""Probabilities of the answers to a row, from its logits."""

from __future__ import annotations

import pytest
import torch

from lorakit.errors import ConfigError
from lorakit.tasks import Classification, MultiLabelClassification
from lorakit.tasks.multiple_choice import MultipleChoice
from lorakit.tasks.registry import TASKS

LOGITS = torch.tensor([[2.5, -1.0], [30.0, -30.0]])


def test_classes_and_choices_sum_to_one_and_labels_have_one_each() -> None:
    classes = Classification(("text",), "label", 8, ("a", "b"))
    choices = MultipleChoice(("question", "x", "y"), "label", 8)
    labels = MultiLabelClassification(("text",), "label", 8, ("a", "b"))
    for task, names in ((classes, ("a", "b")), (choices, ("x", "y"))):
        task.require_probabilities()
        assert task.answer_names == names
        assert torch.equal(task.probabilities(LOGITS), LOGITS.double().softmax(-1))
    assert labels.answer_names == ("a", "b")
    assert torch.equal(labels.probabilities(LOGITS), LOGITS.double().sigmoid())


def test_a_probability_near_one_is_not_rounded_to_it() -> None:
    found = Classification(("text",), "label", 8, ("a", "b")).probabilities(LOGITS)[1]
    assert 0 < float(found[1]) < 1e-25
    assert float(found.sum()) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("name", ["regression", "token_classification"])
def test_tasks_without_probabilities_refuse_them(name: str) -> None:
    task = TASKS[name].task_class(("text",), "label", 8)
    with pytest.raises(ConfigError, match="predicts") as error:
        task.require_probabilities()
    assert name in str(error.value)
