"""When a run that stands still is stopped: after three steps, or after the warmup."""

from __future__ import annotations

import pytest

from lorakit.errors import TrainingError
from lorakit.training import train
from tests.training import tiny


@pytest.mark.parametrize(("warmup", "steps"), [(0, 3), (5, 6)])
def test_steps_too_small_for_a_float_are_waited_for_in_the_warmup_only(
    warmup, steps, encoder, reviews, tmp_path
):
    training = {"learning_rate": 1e-30, "warmup_steps": warmup, "weight_decay": 0.0}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", training=training)
    with pytest.raises(TrainingError, match=f"After {steps} optimizer steps, .* have not changed"):
        train(recipe, lambda text: None)
