"""A step's loss and gradients are those of one big batch, however it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lorakit.training.trainer import LoraTrainer
from tests.tolerances import MODEL
from tests.training import tiny

BUDGETS = [1, 40, 100, 100_000]


def still(base: Path, data: Path, output: Path, /, **sections: Any) -> LoraTrainer:
    """A trainer without any dropout, whose B is not zero."""
    sections["lora"] = {"lora_dropout": 0.0, "init_lora_weights": False}
    recipe = tiny.recipe(base, data, output, **sections)
    trainer = tiny.trainer_of(recipe)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return trainer


def step_of(trainer: LoraTrainer) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first step."""
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, batch)
    grads = {n: p.grad for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert all(grad is not None for grad in grads.values())
    return float(loss), {name: grad.clone() for name, grad in grads.items()}


def one_big_batch(trainer: LoraTrainer) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by the definition: the model's own mean loss over all examples of the step."""
    loader = trainer.get_train_dataloader()
    indices = next(iter(loader.batch_sampler))
    batch = trainer._collate([trainer.train_dataset[i] for i in indices])
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.model(**batch).loss
    loss.backward()
    named = trainer.model.named_parameters()
    return loss.item(), {n: p.grad.clone() for n, p in named if p.requires_grad}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("task", ["classification", "generation"])
def test_a_step_does_not_depend_on_the_token_budget(task, budget, tmp_path, request):
    base = request.getfixturevalue("encoder" if task == "classification" else "decoder")
    data = request.getfixturevalue("reviews" if task == "classification" else "dialogues")
    trainer = still(base, data, tmp_path, training={"token_budget": budget})
    assert trainer.task.name == task
    cuts = len(next(iter(trainer.get_train_dataloader()))["micro_batches"])
    assert (cuts == 8) if budget == 1 else (1 <= cuts < 8)
    loss, grads = step_of(trainer)
    expected, expected_grads = one_big_batch(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    tiny.assert_same(grads, expected_grads, **MODEL)


def test_examples_without_a_completion_weigh_nothing(decoder, dialogues, tmp_path):
    """All labels of a micro-batch may be ignored; its mean loss is then 0/0."""
    trainer = still(decoder, dialogues, tmp_path, training={"token_budget": 1})
    batch = next(iter(trainer.get_train_dataloader()))
    empty = {k: v.clone() for k, v in batch["micro_batches"][0].items()}
    empty["labels"].fill_(-100)
    loss, grads = step_of(trainer)
    trainer.model.zero_grad()
    with_empty = {"micro_batches": [empty, *batch["micro_batches"]]}
    assert float(trainer.training_step(trainer.model, with_empty)) == loss
    named = trainer.model.named_parameters()
    tiny.assert_same({n: p.grad for n, p in named if p.requires_grad}, grads)
    trainer.model.zero_grad()
    assert float(trainer.training_step(trainer.model, {"micro_batches": [empty]})) == 0


def test_evaluation_does_not_depend_on_the_token_budget(encoder, reviews, tmp_path):
    results = []
    for budget in (1, 100_000):
        trainer = still(encoder, reviews, tmp_path, training={"token_budget": budget})
        metrics, predictions = trainer.examine(trainer.train_dataset)
        results.append(predictions)
        batch = trainer._collate(list(trainer.train_dataset))
        with torch.no_grad():
            expected = trainer.model(**batch)
        assert metrics["loss"] == pytest.approx(expected.loss.item(), rel=1e-5)
        assert predictions == trainer.task.predictions(expected.logits)
    assert results[0] == results[1]


def test_evaluation_of_completions_weighs_by_token(decoder, dialogues, tmp_path):
    trainer = still(decoder, dialogues, tmp_path)
    metrics, predictions = trainer.examine(trainer.train_dataset)
    batch = trainer._collate(list(trainer.train_dataset))
    with torch.no_grad():
        expected = trainer.model(**batch)
    kept = batch["labels"][:, 1:] != -100
    hits = (expected.logits[:, :-1].argmax(-1) == batch["labels"][:, 1:])[kept]
    assert metrics["loss"] == pytest.approx(expected.loss.item(), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(float(expected.loss.exp()), rel=1e-5)
    assert metrics["token_accuracy"] == pytest.approx(float(hits.float().mean()))
    assert predictions == []
