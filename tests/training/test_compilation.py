"""Compiled training: the same run, few compilations, and a choice that is measured and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from lorakit.errors import ConfigError, TrainingError
from lorakit.training import compile_choice
from lorakit.training.callbacks import HealthCheck
from lorakit.training.compilation import Compilation, form_of
from lorakit.training.substitute import without_trace
from tests.tolerances import MODEL
from tests.training import tiny
from tests.training.test_step_trainer import Smoothed, trainer_of

Log = list[str]


CUTOFF = {"kind": "cutoff_token"}


@pytest.fixture
def compiler_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler was found")

    name = "lorakit.training.compilation.compiler_backend"
    monkeypatch.setattr(name, lambda _: fail)


def trained(output: Path, choice: Any, log: Log, **settings: Any) -> Smoothed:
    trainer = trainer_of(output, budget=20, compile=choice, log=log.append, **settings)
    trainer.train()
    return trainer


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_compiled_steps_equal_uncompiled_ones_and_compile_twice(backend, tmp_path):
    """Micro-batches of many lengths, of several rows and of one."""
    backend("aot_eager")
    log: Log = []
    compiled = trained(tmp_path, "on", log)
    plain = trained(tmp_path, "off", log)
    forms = {form_of(b) for step in plain.get_train_dataloader() for b in step["micro_batches"]}
    assert len(forms) == compiled.compilation.graphs == 2
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-3)
    tiny.assert_same(tiny.weights(compiled), tiny.weights(plain), **MODEL)
    assert log[1].startswith("compiled 2 times in ")
    assert "of the time of an uncompiled one" in log[2]


class Half(Smoothed):
    """In fp16 with a GradScaler on a CPU, where transformers' Trainer takes neither."""

    def compute_loss_context_manager(self) -> Any:
        return torch.autocast("cpu", torch.float16)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
        return super().train(*args, **kwargs)


def test_fp16_with_a_scaler_trains_compiled_as_uncompiled(backend, tmp_path, monkeypatch):
    backend("aot_eager")
    monkeypatch.setattr("tests.training.test_step_trainer.Smoothed", Half)
    compiled, plain = (trained(tmp_path / choice, choice, []) for choice in ("on", "off"))
    assert compiled.compilation.graphs
    assert losses(compiled) == pytest.approx(losses(plain), rel=4e-3)
    tiny.assert_same(tiny.weights(compiled), tiny.weights(plain), rtol=4e-3, atol=4e-3)


@pytest.mark.usefixtures("compiler_fails")
def test_a_compiler_that_fails_is_one_error_before_the_first_step(tmp_path):
    with pytest.raises(TrainingError, match=r"no C\+\+ compiler was found.*compile: off"):
        trained(tmp_path, "on", [])


@pytest.mark.usefixtures("compiler_fails")
def test_auto_goes_on_uncompiled_where_the_compiler_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_choice, "SECONDS_PER_MODULE", 0)
    log: Log = []
    trainer = trained(tmp_path, "auto", log)
    assert trainer.compilation is None
    assert trainer.state.global_step == 3
    assert "failed" in log[0]
    assert "no C++ compiler" in log[0]


def test_auto_leaves_a_short_run_uncompiled_and_says_its_figures(tmp_path):
    log: Log = []
    trainer = trained(tmp_path, "auto", log)
    assert trainer.compilation is None
    assert len(log) == 1
    assert "as 3 steps of" in log[0]
    assert "from 40 s on" in log[0]  # two modules with weights


@pytest.mark.parametrize(("compiled", "taken"), [(0.5, True), (1.5, False)])
@pytest.mark.usefixtures("backend")
def test_auto_keeps_the_faster_way(tmp_path, monkeypatch, compiled, taken):
    times = {True: compiled, False: 1.0}
    monkeypatch.setattr(compile_choice, "_seconds", lambda *_, compiled: times[compiled])
    monkeypatch.setattr(compile_choice, "SECONDS_PER_MODULE", 0)
    log: Log = []
    trainer = trained(tmp_path, "auto", log)
    assert (trainer.compilation is not None) == taken
    assert f"takes {compiled:.2f} of the time" in log[0]


SAVE = {
    "save_strategy": "steps",
    "save_steps": 1,
    "restore_callback_states_from_checkpoint": True,
}


def begun(output: Path, monkeypatch: pytest.MonkeyPatch, seconds: dict[bool, float]) -> None:
    """Three steps of a run with auto, of which a step compiled (True) or not takes so long."""
    monkeypatch.setattr(compile_choice, "_seconds", lambda *_, compiled: seconds[compiled])
    monkeypatch.setattr(compile_choice, "SECONDS_PER_MODULE", 0)
    trained(output, "auto", [], **SAVE)


def resumed(output: Path, log: Log) -> Smoothed:
    trainer = trainer_of(output, budget=20, compile="auto", log=log.append, **SAVE)
    trainer.train(resume_from_checkpoint=str(output / "checkpoint-2"))
    return trainer


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.usefixtures("backend")
def test_a_resumed_run_keeps_the_choice(tmp_path, monkeypatch, first):
    """Also where the measurement would now say otherwise."""
    begun(tmp_path, monkeypatch, {first: 0.5, not first: 1.0})
    monkeypatch.setattr(compile_choice, "SECONDS_PER_MODULE", 1000)
    monkeypatch.setattr(
        compile_choice, "_seconds", lambda *_, compiled: {first: 1.0, not first: 0.5}[compiled]
    )
    assert (resumed(tmp_path, []).compilation is not None) == first


@pytest.mark.usefixtures("backend")
def test_a_resumed_auto_run_goes_on_uncompiled_where_the_compiler_now_fails(
    tmp_path, monkeypatch, request
):
    """And says what that changes; no one has set compile to on."""
    with monkeypatch.context() as patch:
        begun(tmp_path, patch, {True: 0.5, False: 1.0})
    request.getfixturevalue("compiler_fails")
    log: Log = []
    trainer = resumed(tmp_path, log)
    assert trainer.compilation is None
    assert trainer.state.global_step == 3
    assert len(log) == 1
    assert log[0].startswith("training.compile auto: uncompiled from here on (other rounding")
    assert "no C++ compiler was found" in log[0]


@pytest.mark.parametrize("choice", ["on", "auto"])
@pytest.mark.usefixtures("backend")
def test_a_compiler_that_fails_in_one_process_fails_in_all(choice, tmp_path, monkeypatch):
    """Those where it works do not wait for the others' time."""
    monkeypatch.setattr(compile_choice, "SECONDS_PER_MODULE", 0)
    monkeypatch.setattr(Compilation, "trial", compiled_elsewhere(Compilation.trial, monkeypatch))
    log: Log = []
    if choice == "on":
        with pytest.raises(TrainingError, match="another process failed, and says why"):
            trained(tmp_path, choice, log)
    else:
        assert trained(tmp_path, choice, log).compilation is None
        assert "as torch.compile failed: another process" in log[-1]


def compiled_elsewhere(trial: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trial after which, if it was compiled, one more process than this has failed."""

    def watched(self: Compilation, batch: Any, compiled: bool) -> Any:
        others = float(compiled)
        monkeypatch.setattr(compile_choice, "total", lambda value, _: value + others)
        return trial(self, batch, compiled)

    return watched


@pytest.mark.usefixtures("backend")
def test_hooks_see_a_compiled_run_once(tmp_path):
    """So the health check knows which modules run, and compiled code holds no hook."""
    seen: list[nn.Module] = []

    class Hooks(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            kwargs["model"].scores.register_forward_pre_hook(lambda m, _: seen.append(m))

    log: Log = []
    trainer = trainer_of(tmp_path, budget=1000, compile="on", log=log.append)
    trainer.add_callback(Hooks())
    trainer.add_callback(HealthCheck())
    trainer.train()
    assert len(seen) == 1
    assert trainer.compilation.graphs == 1


@pytest.mark.usefixtures("backend")
def test_more_forms_than_the_limit_run_uncompiled_and_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr("lorakit.training.compilation.MOST", 1)
    log: Log = []
    trainer = trained(tmp_path, "on", log)
    assert trainer.compilation.graphs == 1
    assert "what fits none of these runs uncompiled" in log[0]


def test_a_trial_leaves_no_trace():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
    x = torch.randn(4, 3)
    model(x).sum().backward()
    before = [p.grad.clone() for p in model.parameters()], model.state_dict()
    before = before[0], {name: value.clone() for name, value in before[1].items()}
    state = torch.get_rng_state()
    with without_trace(model):
        model(x).sum().backward()
    assert torch.equal(torch.get_rng_state(), state)
    tiny.assert_same(dict(model.state_dict()), before[1])
    for parameter, gradient in zip(model.parameters(), before[0], strict=True):
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.usefixtures("backend", "torch_for_gpus")
def test_a_torch_for_gpus_compiles_on_a_machine_without_one(tmp_path):
    assert trained(tmp_path, "on", []).compilation.graphs


def test_a_loss_that_edits_embeddings_is_refused_with_compile(tmp_path):
    with pytest.raises(ConfigError, match=r"training\.compile is on.*cutoff_token"):
        tiny.recipe(tmp_path, tmp_path, tmp_path, training={"compile": "on"}, loss=CUTOFF)
    tiny.recipe(tmp_path, tmp_path, tmp_path, training={"compile": "auto"}, loss=CUTOFF)


def test_auto_is_uncompiled_with_a_loss_that_edits_embeddings(encoder, reviews, tmp_path):
    settings = {"training": {"compile": "auto"}, "loss": CUTOFF}
    trainer = tiny.trainer_of(tiny.recipe(encoder, reviews, tmp_path, **settings))
    assert trainer.compile == "off"
