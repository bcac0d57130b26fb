"""When a run that stands still is stopped: after three steps, or after the warmup."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

import lorakit as lora
from lorakit.errors import TrainingError
from lorakit.training import train
from lorakit.training.callbacks import CHECKED_STEPS, HealthCheck
from tests.training import tiny


@pytest.mark.parametrize(("warmup", "steps"), [(0, 3), (5, 6)])
def test_steps_too_small_for_a_float_are_waited_for_in_the_warmup_only(
    warmup, steps, encoder, reviews, tmp_path
):
    training = {"learning_rate": 1e-30, "warmup_steps": warmup, "weight_decay": 0.0}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", training=training)
    with pytest.raises(TrainingError, match=f"After {steps} optimizer steps, .* have not changed"):
        train(recipe, lambda text: None)


class Net(nn.Module):
    """One layer with a name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x)


def test_what_stands_still_in_a_wrapped_model_is_named_within_the_wrapper(tmp_path):
    model = Net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["first"]))
    wrapped = nn.DataParallel(model)
    check = HealthCheck()
    place = TrainingArguments(str(tmp_path), use_cpu=True), TrainerState(), TrainerControl()
    check.on_train_begin(*place, model=wrapped)
    wrapped(torch.randn(2, 4))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    for _ in range(CHECKED_STEPS - 1):
        check.on_optimizer_step(*place, model=wrapped, optimizer=optimizer)
    with pytest.raises(TrainingError) as caught:
        check.on_optimizer_step(*place, model=wrapped, optimizer=optimizer)
    assert any(problem.startswith("first.lora_A: ") for problem in caught.value.problems)
