"""A StepTrainer without any task: someone's own model, examples and loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DataCollatorWithPadding, TrainingArguments

import lorakit as lora
from lorakit.errors import ConfigError
from lorakit.training.step_trainer import StepTrainer
from tests.tolerances import MODEL
from tests.training import tiny

EXAMPLES = [
    {"input_ids": [2, *([4 + n % 8] * (1 + 3 * n % 11)), 3], "labels": n % 2} for n in range(12)
]


class Scorer(nn.Module):
    """The mean embedding of the tokens, scored; no loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.scores = nn.Embedding(len(tiny.WORDS), 8), nn.Linear(8, 2)

    def forward(self, input_ids: Any, attention_mask: Any) -> torch.Tensor:
        mask = attention_mask[..., None].float()
        return self.scores((self.embedding(input_ids) * mask).sum(1) / mask.sum(1))


class Smoothed(StepTrainer):
    """A loss of its own, in transformers' way."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        return nn.functional.cross_entropy(model(**inputs), labels, label_smoothing=0.1)


def trainer_of(output: Path, budget: int, **settings: Any) -> Smoothed:
    model = Scorer()
    torch.manual_seed(1)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["scores"]))
    arguments = {
        "output_dir": str(output),
        "max_steps": 3,
        "learning_rate": 0.1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }
    own = {name: settings.pop(name) for name in ("compile", "log") if name in settings}
    return Smoothed(
        model,
        total_batch=5,
        token_budget=budget,
        data_collator=DataCollatorWithPadding(tiny.tokenizer()),
        args=TrainingArguments(**arguments | settings),
        train_dataset=EXAMPLES,
        **own,
    )


def by_definition(trainer: Smoothed) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Plain steps of AdamW on the whole of each step at once."""
    model: Any = trainer.model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.0)
    losses = []
    for number, indices in enumerate(trainer.get_train_dataloader().batch_sampler):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (3 - number) / 3
        batch = trainer.data_collator([EXAMPLES[i] for i in indices])
        loss = trainer.compute_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, tiny.weights(trainer)


@pytest.mark.parametrize("budget", [1, 20, 1000])
def test_a_loss_of_ones_own_trains_as_by_definition(budget, tmp_path):
    trainer = trainer_of(tmp_path, budget)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    expected, weights = by_definition(trainer_of(tmp_path, budget))
    assert losses == pytest.approx(expected, rel=1e-3)  # logged with four digits
    tiny.assert_same(tiny.weights(trainer), weights, **MODEL)


def test_a_weight_of_zero_leaves_the_micro_batch_out(tmp_path):
    trainer = trainer_of(tmp_path, budget=1)
    trainer.weight = lambda batch: float(batch["labels"].sum())  # only label 1 counts
    batches = next(iter(trainer.get_train_dataloader()))["micro_batches"]
    losses = [trainer.compute_loss(trainer.model, batch).item() for batch in batches]
    kept = [loss for loss, batch in zip(losses, batches, strict=True) if batch["labels"].sum()]
    assert 0 < len(kept) < len(losses)
    step = trainer.training_step(trainer.model, {"micro_batches": batches})
    assert float(step) == pytest.approx(sum(kept) / len(kept), rel=1e-5)


def test_gradient_accumulation_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="gradient_accumulation_steps is 4"):
        trainer_of(tmp_path, budget=100, gradient_accumulation_steps=4)
