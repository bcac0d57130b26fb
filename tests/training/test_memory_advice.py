"""The settings with which a run's step fits into what memory there is."""

from __future__ import annotations

import pytest

from lorakit.recipe.training_config import TrainingConfig
from lorakit.training.memory_advice import advice

FP32 = TrainingConfig(dtype="fp32", token_budget=1024)


def said(available, training=FP32, longest=100, can_checkpoint=True):
    """Of a step that needs a byte for each token of its budget, and a fifth with checkpointing."""
    asked = []

    def needs(settings):
        asked.append(settings)
        budget, checkpointing = settings
        return budget // 5 if checkpointing else budget

    words = advice(needs, available, training, longest, can_checkpoint)
    assert len(asked) == len(set(asked))
    return words


@pytest.mark.parametrize(
    ("available", "words"),
    [
        (
            600,
            "training.token_budget 512 (now 1024), or training.gradient_checkpointing true",
        ),
        (
            110,
            "training.token_budget 512 (now 1024) with training.gradient_checkpointing true",
        ),
    ],
)
def test_smallest_changes_are_named(available, words):
    assert said(available) == f"enough is {words}"


def test_model_without_checkpointing_gets_none():
    assert said(600, can_checkpoint=False) == "enough is training.token_budget 512 (now 1024)"


def test_checkpointing_that_is_on_is_kept():
    on = TrainingConfig(dtype="bf16", token_budget=1024, gradient_checkpointing=True)
    assert said(110, on) == "enough is training.token_budget 512 (now 1024)"


def test_least_is_named_where_nothing_is_enough():
    assert said(10) == (
        "the least that was found is 0.0 kB, with training.token_budget 128 (now 1024) with "
        "training.gradient_checkpointing true; set training.dtype to bf16, or shorten rows by "
        "data.max_length"
    )


def test_budget_is_no_shorter_than_the_longest_row():
    assert "training.token_budget 512 (now 1024) with" in said(10, longest=300)
