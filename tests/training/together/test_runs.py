"""Runs that share a base: each ends as it would have ended alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lorakit.errors import ConfigError, TargetError, TrainingError
from lorakit.recipe.schema import Recipe
from lorakit.training import train
from lorakit.training.together import train_together
from lorakit.training.together.backbone import SharedBackbone
from tests.training import tiny, tiny_seq2seq

STEADY = {"adam_epsilon": 1e-3, "base_dropout": "off", "evaluations": 2}
"""Without noise, and with steps that rounding does not turn around."""
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def recipe(base: Path, data: Path, output: Path, /, **sections: Any) -> Recipe:
    training = {**STEADY, **sections.pop("training", {})}
    lora = {"lora_dropout": 0.0, **sections.pop("lora", {})}
    return tiny.recipe(base, data, output, training=training, lora=lora, **sections)


Settings = dict[str, tuple[Path, dict[str, Any]]]
"""The data and the settings of each run, by its name."""


def assert_as_alone(base: Path, where: Path, runs: Settings) -> None:
    together, alone = (
        {n: recipe(base, data, where / kind / n, **own) for n, (data, own) in runs.items()}
        for kind in ("together", "alone")
    )
    results = train_together(together, _silent)
    assert list(results) == list(together)
    for name, own in alone.items():
        result = train(own, _silent)
        found = Path(together[name].output)
        tiny.assert_same(tiny.adapter_of(found), tiny.adapter_of(Path(own.output)), **CLOSE)
        assert results[name].steps == result.steps
        assert results[name].metrics == pytest.approx(result.metrics, rel=1e-3)
        assert {p.name for p in found.iterdir()} == {p.name for p in Path(own.output).iterdir()}
        logs = [json.loads((Path(d) / "log.json").read_text()) for d in (found, own.output)]
        losses = [[entry["loss"] for entry in log if "loss" in entry] for log in logs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_each_adapter_is_what_it_would_be_alone(
    encoder: Path, reviews: Path, tmp_path: Path
) -> None:
    """Ranks, seeds, learning rates, clipping, DoRA; one is done earlier, and drops out."""
    settings: dict[str, dict[str, Any]] = {
        "small": {},
        "other": {
            "lora": {"r": 4, "lora_alpha": 2, "target_modules": ["query"]},
            "training": {"seed": 1, "max_steps": 7, "max_grad_norm": 0.1, "learning_rate": 3e-2},
        },
        "dora": {
            "lora": {"use_dora": True},
            "training": {"total_batch": 4, "weight_decay": 0.5, "schedule": "cosine"},
        },
    }
    assert_as_alone(encoder, tmp_path, {n: (reviews, own) for n, own in settings.items()})


def save_table(path: Path, header: list[str], labels: list[Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(header)
        for n, label in enumerate(labels):
            words = [tiny.WORDS[5 + (n * k) % 16] for k in range(1, 3 + n % 7)]
            rows.writerow([" ".join(words), label])
    return path


def test_tasks_and_numbers_of_labels_differ(encoder: Path, reviews: Path, tmp_path: Path) -> None:
    """Each has a head and a loss of its own: two classes, three, and a number."""
    three = save_table(tmp_path / "three.csv", ["text", "label"], ["x", "y", "z"] * 10)
    numbers = save_table(tmp_path / "numbers.csv", ["text", "score"], [n / 7 for n in range(30)])
    tasks = {
        "two": (reviews, "classification"),
        "three": (three, "classification"),
        "number": (numbers, "regression"),
    }
    settings = {
        name: (file, {"data": {"task": task}, "training": {"max_steps": 5}})
        for name, (file, task) in tasks.items()
    }
    assert_as_alone(encoder, tmp_path, settings)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_decoders_that_generate(
    llama: Path, dialogues: Path, tmp_path: Path, checkpointing: bool
) -> None:
    training = {"max_steps": 4, "gradient_checkpointing": checkpointing}
    settings: Settings = {
        "one": (dialogues, {"training": training}),
        "other": (dialogues, {"training": training, "lora": {"r": 4}}),
    }
    assert_as_alone(llama, tmp_path, settings)


def two(encoder: Path, reviews: Path, where: Path, **training: Any) -> dict[str, Recipe]:
    return {
        "a": recipe(encoder, reviews, where / "a", training={"max_steps": 8}),
        "b": recipe(encoder, reviews, where / "b", training={"max_steps": 8, "seed": 1} | training),
    }


def test_interrupted_runs_are_resumed(encoder: Path, reviews: Path, tmp_path: Path) -> None:
    """Both go on from their own newest checkpoint, and end as if nothing had happened."""
    whole, halted = (two(encoder, reviews, tmp_path / where) for where in ("whole", "halted"))
    train_together(whole, _silent)

    def stop() -> None:
        raise tiny.Interrupted

    with pytest.MonkeyPatch.context() as patch:
        tiny.do_at_step(patch, 6, stop)
        with pytest.raises(tiny.Interrupted):
            train_together(halted, _silent)
    said: list[str] = []
    train_together(halted, said.append)
    for name in whole:
        assert any(f"{name}: resuming from" in line for line in said)
        tiny.assert_same(
            tiny.adapter_of(Path(halted[name].output)),
            tiny.adapter_of(Path(whole[name].output)),
            **CLOSE,
        )
    said.clear()
    train_together(halted, said.append)
    assert sum("is finished already" in line for line in said) == 2


def test_one_that_fails_does_not_stop_the_others(
    encoder: Path, reviews: Path, tmp_path: Path
) -> None:
    recipes = two(encoder, reviews, tmp_path, learning_rate=4e9, max_grad_norm=0.0)
    with pytest.raises(TrainingError, match="1 of 2 runs failed; the others are finished") as error:
        train_together(recipes, _silent)
    assert [problem[:3] for problem in error.value.problems] == ["b: "]
    assert (tmp_path / "a/result.json").exists()
    assert not (tmp_path / "b/result.json").exists()


def test_what_is_wrong_is_said_before_anything_is_written(
    encoder: Path, reviews: Path, tmp_path: Path
) -> None:
    recipes = two(encoder, reviews, tmp_path)
    missing = recipe(encoder, tmp_path / "none.csv", tmp_path / "c")
    with pytest.raises(Exception, match=r"none\.csv"):
        train_together({**recipes, "c": missing}, _silent)
    assert not any((tmp_path / name).exists() for name in "abc")


def test_the_health_check_sees_each(
    encoder: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedBackbone, "backward", lambda self: None)
    with pytest.raises(TrainingError) as error:
        train_together(two(encoder, reviews, tmp_path), _silent)
    assert str(error.value).count("trainable tensors have not changed") == 2


def test_what_cannot_share_a_run_is_listed(encoder: Path, reviews: Path, tmp_path: Path) -> None:
    recipes = {
        "a": recipe(encoder, reviews, tmp_path),
        "b": recipe(encoder, reviews, tmp_path, method="bitfit"),
        "c": recipe(tmp_path, reviews, tmp_path / "c", loss={"kind": "rdrop"}),
        "d": recipe(
            encoder,
            reviews,
            tmp_path / "d",
            training={"dtype": "bf16", "compile": "on", "report_to": ["tensorboard"]},
        ),
    }
    with pytest.raises(ConfigError) as error:
        train_together(recipes, _silent)
    problems = "\n".join(error.value.problems)
    for expected in (
        "b: method is 'bitfit'; it has to be 'lora'",
        "c: loss.kind is 'rdrop'",
        "d: training.compile is 'on'",
        "d: training.report_to is ['tensorboard']",
        "base has to be one for all",
        "training.dtype has to be one for all; it is a: 'fp32', b: 'fp32', c: 'fp32', d: 'bf16'",
        f"several write to {tmp_path}",
    ):
        assert expected in problems


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_is_refused(kind: str, dialogues: Path, tmp_path: Path) -> None:
    base = tiny_seq2seq.save_seq2seq(tmp_path / kind, kind)
    recipes = {n: recipe(base, dialogues, tmp_path / n) for n in "ab"}
    with pytest.raises(ConfigError, match=r"a: .* is an encoder-decoder"):
        train_together(recipes, _silent)


def test_another_base_is_refused(encoder: Path, reviews: Path, tmp_path: Path) -> None:
    """Under one name, but changed between the two."""
    recipes = two(encoder, reviews, tmp_path)
    whole = SharedBackbone.join

    def join(self: SharedBackbone, name: str, model: Any, made_by: Recipe) -> Any:
        with torch.no_grad():
            model.bert.embeddings.word_embeddings.weight[0] += name == "b"
        return whole(self, name, model, made_by)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharedBackbone, "join", join)
        with pytest.raises(ConfigError, match=r"b cannot share a run.*word_embeddings"):
            train_together(recipes, _silent)


def test_modules_whose_rows_cannot_differ_are_refused_before_a_forward(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longformer's attention has the tokens first."""
    monkeypatch.delattr(SharedBackbone, "forward")
    base = tiny.save_longformer(tmp_path / "base")
    with pytest.raises(TargetError, match="is in LongformerSelfAttention"):
        train_together(two(base, reviews, tmp_path), _silent)


def _silent(text: str) -> None:
    pass
