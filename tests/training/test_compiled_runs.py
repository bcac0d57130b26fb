"""Whole runs, compiled and not: the same weights, for every method, loss and dtype."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training import tiny, tiny_seq2seq
from tests.training.test_resuming import assert_equal_runs, trained

pytestmark = [
    pytest.mark.slow,
    # torch's own, as it traces past the hook by which transformers checkpoints behind embeddings
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
ROUNDED = {"rtol": 1e-3, "atol": 1e-4}
"""Of float32 after a few steps of Adam."""
ROUNDED_BF16 = {"rtol": 1e-2, "atol": 1e-2}


def assert_trains_alike(base: Path, data: Path, output: Path, settings: Any) -> None:
    found = {}
    for choice in ("off", "on"):
        training = {"max_steps": 3, "compile": choice, **settings.get("training", {})}
        adapter = {"lora_dropout": 0.0, **settings.get("lora", {})}
        sections = {**settings, "training": training, "lora": adapter}
        trainer = tiny.trainer_of(tiny.recipe(base, data, output / choice, **sections))
        trainer.train_from(None)
        found[choice] = trainer
    assert 0 < found["on"].compilation.graphs < 8
    tolerance = ROUNDED_BF16 if "bf16" in str(settings) else ROUNDED
    tiny.assert_same(tiny.weights(found["on"]), tiny.weights(found["off"]), **tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full"},
        {"method": "head"},
        {"lora": {"use_dora": True, "target_modules": ["query", "value"]}},
        {"training": {"label_smoothing": 0.1}},
        {"training": {"gradient_checkpointing": True}},
        {"training": {"dtype": "bf16"}},
        {"loss": {"kind": "rdrop"}},
    ],
    ids=str,
)
def test_runs_of_every_kind_train_compiled_as_uncompiled(settings, backend, reviews, tmp_path):
    backend("aot_eager")
    base = tiny.save_encoder(tmp_path / "base", dropout=0.0)
    assert_trains_alike(base, reviews, tmp_path, settings)


def test_the_default_compiler_trains_as_uncompiled(reviews, tmp_path):
    base = tiny.save_encoder(tmp_path / "base", dropout=0.0)
    assert_trains_alike(base, reviews, tmp_path, {})


@pytest.mark.parametrize("kind", tiny_seq2seq.MODELS)
def test_encoder_decoders_train_compiled_as_uncompiled(kind, backend, tmp_path):
    backend("aot_eager")
    base = tiny_seq2seq.save_seq2seq(tmp_path / "base", kind)
    data = tiny_seq2seq.save_pairs(tmp_path / "pairs.jsonl")
    settings = {"data": {"task": "generation", "max_length": 24}}
    assert_trains_alike(base, data, tmp_path, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["c_attn"], "slices": {"c_attn": [True, False, True]}},
        {"target_modules": ["c_attn"], "trainable_token_indices": [5, 6]},
    ],
    ids=str,
)
@pytest.mark.usefixtures("backend")
def test_gpt2_trains_compiled_as_uncompiled(settings, decoder, dialogues, tmp_path):
    assert_trains_alike(decoder, dialogues, tmp_path, {"lora": settings})


@pytest.mark.parametrize(
    "task", ["token_classification", "multi_label_classification", "regression"]
)
@pytest.mark.usefixtures("backend")
def test_tasks_train_compiled_as_uncompiled(task, tmp_path):
    base = tiny.save_encoder(tmp_path / "base", dropout=0.0)
    rows = []
    for i in range(48):
        words = [tiny.OTHER[(i + k) % 8] for k in range(1 + i % 9)] + [tiny.GOOD[i % 4]]
        rows.append(
            {
                "words": words,
                "text": " ".join(words),
                "token_classification": ["B"] * (len(words) - 1) + ["A"],
                "multi_label_classification": [
                    tiny.GOOD[i % 4],
                    "long" if len(words) > 5 else "short",
                ],
                "regression": float(len(words)),
            }
        )
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    text = ["words"] if task == "token_classification" else ["text"]
    columns = {"task": task, "text": text, "label": task}
    assert_trains_alike(base, data, tmp_path, {"data": columns})


def test_a_resumed_compiled_run_equals_an_uninterrupted_one(backend, encoder, reviews, tmp_path):
    """Bit for bit, with the dropout of base and adapter."""
    backend("aot_eager")
    settings = {"training": {"compile": "on", "token_budget": 30}}
    one, two = (tiny.recipe(encoder, reviews, tmp_path / n, **settings) for n in ("one", "two"))
    whole = trained(one)
    assert trained(two, kill_after=5) is None
    assert_equal_runs(trained(two), whole)
