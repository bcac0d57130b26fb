"""transformers' private names: each is there, and what happens without it."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from subprocess import run
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, MambaConfig, Trainer

from lorakit.errors import MissingDependencyError
from lorakit.private import transformers_names as names
from lorakit.private.transformers_names import NAMES, CheckpointHooks, StepHooks
from tests.private.test_torch_names import hide

TINY = BertConfig(
    vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
)


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_transformers_has_it(name):
    entry, missing = NAMES[name], object()
    assert entry.find(missing) is not missing, (
        f"transformers {transformers.__version__} no longer has {entry.path} ({entry.since} "
        "has it). Say in lorakit/private/transformers_names.py where it is now, or what "
        f"documented name took its place. Why it is used: {entry.why}. Until then: {entry.without}."
    )


HOOKS = {name: entry for name, entry in NAMES.items() if ":Trainer." in entry.path}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_called_with_what_the_mixin_takes(name):
    mixin = next((m for m in (StepHooks, CheckpointHooks) if name in vars(m)), None)
    if mixin is not None:
        ours, theirs = (inspect.signature(getattr(c, name)).parameters for c in (mixin, Trainer))
        assert len(ours) == len(theirs)


@pytest.mark.parametrize("name", names.MARKS)
def test_a_loaded_model_has_its_marks(name, tmp_path):
    BertForSequenceClassification(TINY).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    marked = [model, *model.parameters()]
    assert any(hasattr(thing, name) for thing in marked), f"{name}: {names.MARKS[name]}"


def test_what_is_read_of_a_model(tmp_path):
    model = BertForSequenceClassification(TINY)
    assert names.attention_of(model) == "sdpa"
    assert not names.is_stateful(model)
    assert names.is_stateful(
        transformers.MambaModel(MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1))
    )
    head = nn.Linear(2, 2).weight
    assert not names.is_loaded(head)
    names.count_as_loaded(head)
    assert names.is_loaded(head)
    tied = transformers.BertForMaskedLM(TINY)
    assert "cls.predictions.decoder.weight" in names.tied_weights(tied)
    names.declare_ties(tied, {})
    assert names.tied_weights(tied) == {}


def test_a_model_without_them_is_a_plain_one():
    model = nn.Linear(2, 2)
    assert names.attention_of(model) is None
    assert not names.is_stateful(model)
    assert not names.is_loaded(model.weight)
    assert names.tied_weights(model) == {}


# --- the hooks of a Trainer


class FakeTrainer:
    """What the mixins need of transformers' Trainer."""

    def __init__(self) -> None:
        self.args = SimpleNamespace(should_save=True, output_dir="run")
        self.written: list[str] = []

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {**inputs, "device": "there"}

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> int:
        return 7

    def _save(self) -> None:
        self.written.append("the whole model")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._save("run/checkpoint-1")  # type: ignore[call-arg]
        self.written.append("optimizer")

    def _load_from_checkpoint(self) -> None: ...

    def _load_best_model(self) -> None: ...


class Steps(StepHooks, FakeTrainer): ...


class Checkpoints(CheckpointHooks, FakeTrainer):
    def save_weights(self, directory: Path) -> None:
        self.written.append(f"adapter in {directory}")

    def save_checkpoint(self, save: Any) -> None:
        super().save_checkpoint(save)
        self.written.append("mark")

    def load_weights(self, checkpoint: Path) -> None:
        self.written.append(f"from {checkpoint}")

    def load_best_weights(self) -> None:
        self.written.append("best")


def test_steps_prepare_their_batches_and_count_no_items():
    trainer = Steps()
    assert trainer.prepare_inputs({"ids": 1}) == {"ids": 1, "device": "there"}
    assert trainer._get_num_items_in_batch([], "cpu") is None


def test_checkpoints_hold_what_the_trainer_says():
    trainer = Checkpoints()
    trainer._save_checkpoint(None, None)
    trainer._load_from_checkpoint("run/checkpoint-1")
    trainer._load_best_model()
    assert trainer.written == [
        "adapter in run/checkpoint-1", "optimizer", "mark", "from run/checkpoint-1", "best",
    ]  # fmt: skip
    trainer.args.should_save = False
    trainer._save("elsewhere")
    assert len(trainer.written) == 5


@pytest.mark.parametrize("name", HOOKS)
def test_a_trainer_without_the_hook_is_refused_by_version_and_name(name):
    members = {key: value for key, value in vars(FakeTrainer).items() if key != name}
    trainer = type("Trainer", (), members)
    mixin = StepHooks if name in ("_prepare_inputs", "_get_num_items_in_batch") else CheckpointHooks
    message = f"transformers {transformers.__version__} has no transformers.Trainer.{name}"
    with pytest.raises(MissingDependencyError, match=message.replace(".", r"\.")):
        type("Own", (mixin, trainer), {})


def test_the_module_imports_nothing_of_transformers():
    code = "import sys, lorakit.private.transformers_names; sys.exit('transformers' in sys.modules)"
    run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_gone_is_told_of(monkeypatch):
    hide(monkeypatch, {NAMES["_is_stateful"].path})
    assert NAMES["_is_stateful"].find("gone") == "gone"
