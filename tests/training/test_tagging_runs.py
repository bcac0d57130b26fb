"""Runs that tag words: dropout before their head, batches of any padding side, steps in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2Model

from lorakit.errors import ConfigError
from lorakit.recipe.schema import Recipe
from lorakit.tasks import TokenClassification
from lorakit.training.model import load_model
from tests.training import tiny

TASK = TokenClassification(("tokens",), "tags", 16, ("A", "B"))
ROWS = {"tokens": [["the", "film"], ["it", "was", "a", "good", "plot"]],
        "tags": [["A", "B"], ["B"] * 5]}  # fmt: skip


def with_dropout(base: Path, tmp_path: Path) -> Recipe:
    data = {"task": "token_classification", "text": ["tokens"], "label": "tags"}
    training = {"classifier_dropout": 0.35}
    return tiny.recipe(base, tmp_path, tmp_path / "run", data=data, training=training)


def test_dropout_before_the_head_is_set(encoder, tmp_path) -> None:
    model, new = load_model(with_dropout(encoder, tmp_path), TASK)
    assert (model.dropout.p, new) == (0.35, ["classifier"])


def test_debertas_setting_which_this_head_does_not_read_is_refused(tmp_path) -> None:
    config = DebertaV2Config(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8,
    )  # fmt: skip
    DebertaV2Model(config).save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"no such setting .* for the task token_classification"):
        load_model(with_dropout(tmp_path / "base", tmp_path), TASK)


def test_labels_stand_beside_their_words_whatever_side_the_tokenizer_pads() -> None:
    words = tiny.tokenizer()
    words.padding_side = "left"
    encoded = TASK.encode(words, ROWS)
    examples = [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    batch = TASK.collate(words, examples)
    labelled = batch["labels"] != -100
    found = [ids[kept].tolist() for ids, kept in zip(batch["input_ids"], labelled, strict=True)]
    assert [[tiny.WORDS[i] for i in row] for row in found] == [
        ["the", "film"], ["it", "was", "[UNK]", "good", "plot"],
    ]  # fmt: skip
    own = TASK.own(batch["labels"], examples)
    assert [row.tolist() for row in own] == [[0, 1], [1] * 5]


def test_a_step_is_the_mean_over_its_words_however_it_is_cut(encoder, tmp_path) -> None:
    file = tmp_path / "rows.conll"
    rows = [f"the {'A' if i % 3 else 'B'}\n" * (1 + i % 7) for i in range(24)]
    file.write_text("\n".join(rows))
    losses = {}
    for budget in (16, 4096):
        training = {"token_budget": budget, "max_steps": 3, "base_dropout": "off"}
        data = {"task": "token_classification", "text": ["tokens"], "label": "tags"}
        recipe = tiny.recipe(
            encoder, file, tmp_path / str(budget), data=data, training=training,
            lora={"lora_dropout": 0.0},
        )  # fmt: skip
        trainer = tiny.trainer_of(recipe)
        trainer.train()
        losses[budget] = torch.tensor([e["loss"] for e in trainer.state.log_history if "loss" in e])
    torch.testing.assert_close(losses[16], losses[4096])
