"""`lorakit.plan`: the peak of a training step, without allocating it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from lorakit.errors import ConfigError, PlanError, require
from lorakit.injection.inspection.report import Report
from lorakit.methods.registry import METHODS
from lorakit.models.dtypes import Dtype, compute_in
from lorakit.models.fp32_head import head_names
from lorakit.planner.bases import model_of
from lorakit.planner.checkpointing import Checkpointing, can_checkpoint, checkpoint
from lorakit.planner.device_plan import DevicePlan, plan_device
from lorakit.planner.devices.parallels import PARALLELS
from lorakit.planner.fakes import fake_copy
from lorakit.planner.formula import formula, formula_lines
from lorakit.planner.inputs import fake_inputs, input_problems, loss_in
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.plan import Plan
from lorakit.planner.quantised import Quantised, linear_weights, quantisable, quantise
from lorakit.planner.recording import LinearWeight, Recording
from lorakit.planner.settings import StepSettings
from lorakit.planner.step import Loss, record_step
from lorakit.planner.timeline import timeline
from lorakit.private.torch_names import FakeTensorMode
from lorakit.surgery.foreign import require_no_peft


def plan(
    model_or_config: nn.Module | Any,
    method: str = "lora",
    config: Any = None,
    *,
    batch: int = 8,
    length: int = 128,
    dtype: Dtype = "bf16",
    optimizer: str = "adamw",
    checkpointing: Checkpointing = False,
    token_budget: int | None = None,
    quantised: Quantised | None = None,
    devices: int = 1,
    parallel: str | None = None,
    reshard_after_forward: bool = True,
) -> Plan:
    """The memory and arithmetic of a training step of a model with a method, on fake tensors.

    `model_or_config` is a plain transformers model, on any device or on meta, which is not changed,
    or its config. `method` is a recipe's, and `config` the method's, such as `LoraConfig(...)`;
    None: its defaults. A step has `batch` rows of `length` tokens, padding included, in one
    micro-batch, or in several of at most `token_budget` tokens; `dtype` is what frozen weights are
    stored and products computed in, while what trains is float32. `optimizer` is one of
    `lorakit.planner.optimizers.OPTIMIZERS`; `checkpointing` is gradient checkpointing, of the
    non-reentrant kind or "reentrant". `quantised`, "int8", "nf4" or "nf4_double", is how the frozen
    weights of linear layers are stored, by formula: lorakit itself trains no quantised base. With
    several `devices` the plan's `device` says what each holds, by formula: `parallel` is ddp, fsdp
    (with `reshard_after_forward`, as torch's) or tp.

    Raises ConfigError that lists every impossible setting, or for what is no model with a loss,
    TargetError for a config of the method that does not fit the model, StateError for a model that
    is already prepared, and PlanError for one whose forward depends on values; it says where, and
    what the step holds by formula.

    >>> from lorakit import LoraConfig
    >>> from transformers import LlamaConfig
    >>> small = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    >>> plan(small, "lora", LoraConfig(r=8, target_modules=["q_proj"])).trainable_parameters
    2048
    """
    settings = StepSettings(
        method,
        config,
        batch,
        length,
        dtype,
        optimizer,
        checkpointing,
        token_budget=token_budget,
        quantised=quantised,
        devices=devices,
        parallel=parallel,
        reshard_after_forward=reshard_after_forward,
    )
    return plan_step(model_of(model_or_config), settings)


@dataclass(frozen=True)
class Recorded:
    """A recorded step, of which plans with the base stored in any way are made."""

    report: Report
    trainable_parameters: int
    recording: Recording
    can_be_quantised: bool
    can_checkpoint: bool
    device: DevicePlan | None
    assumed: str | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        settings: StepSettings,
        report: Report,
        recording: Recording,
        quantised: Mapping[Tensor, LinearWeight],
    ) -> Recorded:
        """Of a recording of this prepared fake model, in its mode; with what could be quantised."""
        return cls(
            report,
            sum(p.numel() for p in model.parameters() if p.requires_grad),
            recording,
            bool(quantised),
            can_checkpoint(model),
            plan_device(model, settings, recording.events),
        )

    def plan(self, settings: StepSettings) -> Plan:
        """The plan of the settings that were recorded, or of these with `quantised`.

        Raises ConfigError if there is nothing to quantise.
        """
        nothing = "it quantises the frozen weights of linear layers, and there are none"
        fits = settings.quantised is None or self.can_be_quantised
        require({f"quantised is {settings.quantised}; {nothing} with {settings.method}": fits})
        saved = self.report.trainable_parameters + self.report.frozen_adapter_parameters
        return Plan(
            model=self.report.model,
            settings=settings,
            trainable_parameters=self.trainable_parameters,
            total_parameters=self.report.total_parameters,
            checkpoint_bytes=4 * saved,
            memory=timeline(quantise(self.recording.events, settings.quantised)),
            work=self.recording.work,
            device=self.device,
            assumed=self.assumed,
        )


@dataclass(frozen=True)
class Step:
    """A step that was asked for, and what records it with other settings."""

    settings: StepSettings
    record: Callable[[StepSettings], Recorded]

    def plan(self) -> Plan:
        """The plan of the step as it was asked for."""
        return self.record(self.settings).plan(self.settings)


def model_step(model: nn.Module, settings: StepSettings) -> Step:
    """A step of a plain model."""
    return Step(settings, partial(record, model))


def plan_step(model: nn.Module, settings: StepSettings) -> Plan:
    """`plan` for a model and settings; raises as it does."""
    return model_step(model, settings).plan()


def record(model: nn.Module, settings: StepSettings) -> Recorded:
    """A step of a plain model with these settings, whatever they say of `quantised`."""
    _require_fit(model, settings)
    mode = FakeTensorMode()
    faked: Any = fake_copy(model, mode)
    weights = linear_weights(faked)
    with mode:
        report = prepare(faked, settings)
        frozen = quantisable(weights)
        recording = record_prepared(
            faked,
            fake_inputs(faked, settings.rows, settings.length),
            loss_in(settings.dtype),
            optimizer=settings.optimizer,
            max_norm=settings.max_grad_norm or None,
            accumulates=settings.rows < settings.batch,
            quantisable=frozen,
        )
        return Recorded.of(faked, settings, report, recording, frozen)


def _require_fit(model: Any, settings: StepSettings) -> None:
    require_no_peft(model)
    problems = input_problems(model, settings)
    if settings.checkpointing and not can_checkpoint(model):
        problems.append(f"checkpointing is {settings.checkpointing}, and this model has none")
    require_divisible(model, settings, problems)


def require_divisible(
    model: nn.Module, settings: StepSettings, problems: Sequence[str] = ()
) -> None:
    """Raise ConfigError with these problems, and those of dividing a model over several devices."""
    if settings.devices > 1:
        problems = [
            *problems,
            *PARALLELS[settings.parallelism].problems(model, settings.devices),
        ]
    if problems:
        raise ConfigError(f"This step of {type(model).__name__} cannot be planned:", problems)


def record_prepared(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    loss: Loss,
    *,
    optimizer: str = "adamw",
    max_norm: float | None = 1.0,
    **options: Any,
) -> Recording:
    """A step of a prepared fake model; `options` are those of `record_step`.

    Raises PlanError with the formula's sizes where the step cannot run, or not in `seconds`.
    """
    steps = OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad])
    try:
        return record_step(model, batch, steps, loss, max_norm, **options)
    except PlanError as error:
        raise PlanError(error.headline, formula_lines(formula(model, steps))) from error


def prepare(model: Any, settings: StepSettings) -> Report:
    """Prepare a model as a training does: method, dtypes, checkpointing."""
    report = METHODS[settings.method].apply(model, settings.method_config, head_names(model))
    compute_in(model, settings.dtype)
    if settings.checkpointing:
        checkpoint(model, settings.checkpointing)
    model.train()
    return report
