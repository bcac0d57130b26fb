"""Checkpoints of AdapterTrainer, and of transformers' own Trainer with an adapted model."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import lorakit as lora
from lorakit.training import AdapterCheckpoints, AdapterTrainer

EXAMPLES = [{"input_ids": [2, 4 + n, 3], "labels": n % 2} for n in range(16)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trainer_of(
    kind: type[Trainer], base: Path, output: Path, steps: int = 6, metric: Any = None
) -> Trainer:
    torch.manual_seed(1)
    model = BertForSequenceClassification.from_pretrained(base)
    lora.inject(
        model, lora.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    )
    arguments = TrainingArguments(
        str(output),
        learning_rate=0.05,
        max_steps=steps,
        save_steps=2,
        eval_steps=2,
        eval_strategy="steps",
        load_best_model_at_end=True,
        metric_for_best_model="loss" if metric is None else "error",
        greater_is_better=False,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    data = {"train_dataset": EXAMPLES, "eval_dataset": EXAMPLES[:4]}
    return kind(model, arguments, **data, compute_metrics=metric)


def trained(trainer: Trainer) -> dict[str, Tensor]:
    model: Any = trainer.model
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", [AdapterTrainer, Trainer])
def test_going_on_from_a_checkpoint_is_an_uninterrupted_training(kind, base, tmp_path):
    whole = trainer_of(kind, base, tmp_path / "whole")
    whole.train()
    checkpoint = tmp_path / "whole/checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").exists()
    assert all(file.stat().st_size < 30_000 for file in checkpoint.glob("*.safetensors"))
    again = trainer_of(kind, base, tmp_path / "again")
    again.train(resume_from_checkpoint=str(checkpoint))
    expected = trained(whole)
    assert expected.keys() == trained(again).keys()
    for name, tensor in trained(again).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("kind", [AdapterTrainer, Trainer])
def test_the_best_checkpoint_is_loaded_at_the_end(kind, base, tmp_path):
    errors = count()  # the first evaluation is the best
    trainer = trainer_of(kind, base, tmp_path / "run", metric=lambda _: {"error": next(errors)})
    trainer.train()
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-2")
    best = BertForSequenceClassification.from_pretrained(base)
    lora.load_adapter(best, tmp_path / "run/checkpoint-2")
    parameters = dict(best.named_parameters())
    for name, tensor in trained(trainer).items():
        assert torch.equal(tensor, parameters[name]), name


def test_a_wrong_checkpoint_is_refused(base, tmp_path):
    trainer_of(AdapterTrainer, base, tmp_path / "run", steps=2).train()
    other = trainer_of(AdapterTrainer, base, tmp_path / "other")
    lora.eject(other.model)
    lora.inject(other.model, lora.LoraConfig(r=2, target_modules=["value"]))
    with pytest.raises(lora.errors.MismatchError, match="query"):
        other.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-2"))


def test_the_mixin_serves_a_model_that_is_not_transformers(tmp_path):
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.score = torch.nn.Embedding(32, 4), torch.nn.Linear(4, 2)

        def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
            scores = self.score(self.embed(input_ids).mean(1))
            return {"loss": torch.nn.functional.cross_entropy(scores, labels)}

    class MyTrainer(AdapterCheckpoints, Trainer):
        """Somebody's."""

    model = Model()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["score"]))
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=2, report_to=[], use_cpu=True, disable_tqdm=True
    )
    MyTrainer(model, arguments, train_dataset=EXAMPLES).train()
    lora.load_adapter(Model(), tmp_path / "checkpoint-2", check_base=False)
