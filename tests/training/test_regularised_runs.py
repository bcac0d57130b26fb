"""Losses of two passes inside a run: steps, evaluation, resuming, the recipe as run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lorakit.losses import consistency
from lorakit.losses.divergences import loralib
from lorakit.training import train
from lorakit.training.trainer import LoraTrainer
from tests.tolerances import MODEL
from tests.training import tiny
from tests.training.test_resuming import assert_equal_runs, trained

EVERY_TOKEN = {"kind": "loralib_cutoff", "ratio": 0.9999999, "weight": 2.0}
"""The one view without chance: every token that is not special becomes unknown."""


def still(base: Path, data: Path, output: Path, **training: Any) -> LoraTrainer:
    """A trainer without any dropout, whose B is not zero."""
    lora = {"lora_dropout": 0.0, "init_lora_weights": False}
    recipe = tiny.recipe(base, data, output, lora=lora, training=training, loss=EVERY_TOKEN)
    trainer = tiny.trainer_of(recipe)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return trainer


@pytest.mark.parametrize("budget", [1, 60, 100_000])
def test_a_step_is_the_mean_over_its_examples_however_it_is_cut(budget, encoder, reviews, tmp_path):
    trainer = still(encoder, reviews, tmp_path, token_budget=budget)
    loader = trainer.get_train_dataloader()
    step = next(iter(loader))
    cuts = len(step["micro_batches"])
    assert (cuts == 8) if budget == 1 else (1 <= cuts < 8)
    trainer.model.zero_grad()
    loss = float(trainer.training_step(trainer.model, step))
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}

    whole = trainer._collate([trainer.train_dataset[i] for i in next(iter(loader.batch_sampler))])
    labels, ids = whole.pop("labels"), whole["input_ids"]
    special = torch.tensor(trainer.tokenizer.all_special_ids)
    unknown = torch.where(torch.isin(ids, special), ids, trainer.tokenizer.unk_token_id)
    trainer.model.zero_grad()
    z1, z2 = trainer.model(**whole).logits, trainer.model(**{**whole, "input_ids": unknown}).logits
    expected = loralib(z1, z2, labels, weight=2.0)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    named = trainer.model.named_parameters()
    tiny.assert_same(grads, {n: p.grad for n, p in named if p.requires_grad}, **MODEL)


def test_both_passes_count_for_the_token_budget(encoder, reviews, tmp_path):
    trainer = still(encoder, reviews, tmp_path, token_budget=80)
    for step in trainer.get_train_dataloader():
        for batch in step["micro_batches"]:
            assert batch["input_ids"].numel() <= 40 or len(batch["input_ids"]) == 1


def test_evaluation_has_one_pass(encoder, reviews, tmp_path, monkeypatch):
    recipe = tiny.recipe(encoder, reviews, tmp_path, loss={"kind": "cutoff_token"})
    trainer = tiny.trainer_of(recipe)

    def refuse(self: Any, model: Any, batch: Any) -> None:
        raise AssertionError("a second pass")

    monkeypatch.setattr(consistency.ConsistencyLoss, "__call__", refuse)
    first = trainer.examine(trainer.train_dataset)
    assert trainer.examine(trainer.train_dataset) == first
    with pytest.raises(AssertionError, match="a second pass"):
        trainer.train_from(None)


@pytest.mark.parametrize(
    "kind", ["cutoff_token", pytest.param("cutoff_feature", marks=pytest.mark.slow)]
)
def test_a_resumed_run_equals_an_uninterrupted_one(kind, encoder, reviews, tmp_path):
    loss = {"kind": kind}
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole", loss=loss))
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut", loss=loss)
    trained(recipe, 8)
    resumed = trained(recipe)
    assert resumed._initial_global_step == 6
    assert_equal_runs(whole, resumed)


def test_numbers_are_learned_in_two_passes(encoder, reviews, tmp_path):
    table = tmp_path / "lengths.csv"
    texts = [line.partition(",")[0] for line in reviews.read_text(encoding="utf-8").splitlines()]
    rows = [f"{text},{len(text) / 40:.2f}" for text in texts[1:]]
    table.write_text("\n".join(["text,length", *rows, ""]), encoding="utf-8")
    data = {"task": "regression", "text": "text", "label": "length"}
    training = {"epochs": 8, "evaluations": 1, "learning_rate": 0.01}
    recipe = tiny.recipe(
        encoder, table, tmp_path / "run", data=data, training=training, loss={"kind": "rdrop"}
    )
    train(recipe, lambda text: None)
    log = json.loads((tmp_path / "run/log.json").read_text(encoding="utf-8"))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


def test_a_task_without_two_passes_is_refused_before_the_directory_is_taken(
    decoder, dialogues, tmp_path
):
    recipe = tiny.recipe(decoder, dialogues, tmp_path / "run", loss={"kind": "rdrop"})
    with pytest.raises(ValueError, match="the task generation has none"):
        train(recipe, lambda text: None)
    assert not (tmp_path / "run").exists()
