"""`lorakit.plan`: the peak of a training step, without allocating it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from lorakit.errors import ConfigError, PlanError, require
from lorakit.injection.inspection.report import Report
from lorakit.methods.registry import METHODS
from lorakit.models.dtypes import Dtype, compute_in
from lorakit.models.fp32_head import head_modules
from lorakit.planner.bases import model_on_meta
from lorakit.planner.checkpointing import Checkpointing, checkpoint
from lorakit.planner.device_plan import DevicePlan, plan_device
from lorakit.planner.devices.parallels import PARALLELS
from lorakit.planner.fakes import fake_copy
from lorakit.planner.formula import formula, formula_lines
from lorakit.planner.inputs import fake_inputs, input_problems, loss_in
from lorakit.planner.module_kinds import module_kinds
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.quantised import Quantised, linear_weights, quantisable, quantise
from lorakit.planner.recording import Event
from lorakit.planner.settings import StepSettings
from lorakit.planner.step import Loss, record_step
from lorakit.planner.timeline import Timeline, timeline
from lorakit.private.torch_names import FakeTensorMode
from lorakit.text import size_text, table


@dataclass(frozen=True)
class Plan:
    """What a training step takes, before a byte of it is allocated."""

    model: str
    """The model's class."""
    settings: StepSettings
    trainable_parameters: int
    total_parameters: int
    """Of the base, with its head."""
    checkpoint_bytes: int
    """What is saved of what was trained: float32."""
    memory: Timeline
    device: DevicePlan | None = None
    """What each of several devices holds, by formula."""

    @property
    def peak_bytes(self) -> int:
        """The most bytes that live at once in a step."""
        return self.memory.peak.total

    @property
    def bytes_by(self) -> dict[str, int]:
        """The bytes at the peak by what they are for."""
        return dict(self.memory.peak.bytes_by)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: its values, without the method's config and the curve."""
        values = {
            name: getattr(self, name)
            for name in (
                "model",
                "peak_bytes",
                "bytes_by",
                "trainable_parameters",
                "total_parameters",
                "checkpoint_bytes",
            )
        }
        settings = asdict(replace(self.settings, config=None))
        del settings["config"]
        device = {"device": self.device.to_dict()} if self.device else {}
        return {
            **values,
            "peak_phase": self.memory.peak.phase,
            "modules": [kind.to_dict() for kind in module_kinds(self.memory.modules)],
            **device,
            "settings": settings,
        }

    def __str__(self) -> str:
        device = self.device
        return "\n".join(
            [
                f"{self.model}, {self.settings.method}, {self.settings.step}: "
                f"{size_text(self.peak_bytes)} at the peak, in the {self.memory.peak.phase}",
                *_sizes(self.bytes_by),
                f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters train; "
                f"a checkpoint has {size_text(self.checkpoint_bytes)}",
                *([device.headline, *_sizes(device.bytes_by)] if device else []),
            ]
        )


def _sizes(bytes_by: Mapping[str, int]) -> list[str]:
    sizes = {**bytes_by, "peak": sum(bytes_by.values())}
    return table([[name, size_text(size)] for name, size in sizes.items()])


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
    """The memory of a training step of a model with a method, by running it on fake tensors.

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

    Raises ConfigError that lists every impossible setting, TargetError for a config of the method
    that does not fit the model, StateError for a model that is already prepared, and PlanError for
    one whose forward depends on values; it says where, and what the step holds by formula.

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
    is_model = isinstance(model_or_config, nn.Module)
    model = model_or_config if is_model else model_on_meta(model_or_config)
    return plan_step(model, settings)


@dataclass(frozen=True)
class Recorded:
    """A recorded step, of which plans with the base stored in any way are made."""

    model: str
    report: Report
    trainable_parameters: int
    events: Sequence[Event]
    can_be_quantised: bool
    device: DevicePlan | None

    def plan(self, settings: StepSettings) -> Plan:
        """The plan of the settings that were recorded, or of these with `quantised`.

        Raises ConfigError if there is nothing to quantise.
        """
        nothing = "it quantises the frozen weights of linear layers, and there are none"
        fits = settings.quantised is None or self.can_be_quantised
        require({f"quantised is {settings.quantised}; {nothing} with {settings.method}": fits})
        saved = self.report.trainable_parameters + self.report.frozen_adapter_parameters
        return Plan(
            model=self.model,
            settings=settings,
            trainable_parameters=self.trainable_parameters,
            total_parameters=self.report.total_parameters,
            checkpoint_bytes=4 * saved,
            memory=timeline(quantise(self.events, settings.quantised)),
            device=self.device,
        )


def plan_step(model: nn.Module, settings: StepSettings) -> Plan:
    """`plan` for a model and settings; raises as it does."""
    return record(model, settings).plan(settings)


def record(model: nn.Module, settings: StepSettings) -> Recorded:
    """A step of a plain model with these settings, whatever they say of `quantised`."""
    _require_fit(model, settings)
    mode = FakeTensorMode()
    faked: Any = fake_copy(model, mode)
    weights = linear_weights(faked)
    with mode:
        report = prepare(faked, settings)
        frozen = quantisable(weights)
        events = record_prepared(
            faked,
            fake_inputs(faked, settings.rows, settings.length),
            loss_in(settings.dtype),
            optimizer=settings.optimizer,
            max_norm=settings.max_grad_norm or None,
            accumulates=settings.rows < settings.batch,
            quantisable=frozen,
        )
        device = plan_device(faked, settings, events)
    trains = sum(p.numel() for p in faked.parameters() if p.requires_grad)
    return Recorded(type(model).__name__, report, trains, events, bool(frozen), device)


def _require_fit(model: Any, settings: StepSettings) -> None:
    problems = input_problems(model, settings.length)
    if settings.devices > 1:
        problems += PARALLELS[settings.parallelism].problems(model, settings.devices)
    if problems:
        raise ConfigError(f"This step of {type(model).__name__} cannot be planned:", problems)


def plan_prepared(
    model: nn.Module, batch: Mapping[str, Tensor], loss: Loss, **options: Any
) -> Timeline:
    """The memory of a step, of which `record_prepared` has what happens; it raises the same."""
    return timeline(record_prepared(model, batch, loss, **options))


def record_prepared(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    loss: Loss,
    *,
    optimizer: str = "adamw",
    max_norm: float | None = 1.0,
    **options: Any,
) -> list[Event]:
    """The events of a step of a prepared fake model; `options` are those of `record_step`.

    Raises PlanError with the formula's sizes where the step cannot run, or not in `seconds`.
    """
    steps = OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad])
    try:
        return record_step(model, batch, steps, loss, max_norm, **options)
    except PlanError as error:
        raise PlanError(error.headline, formula_lines(formula(model, steps))) from error


def prepare(model: Any, settings: StepSettings) -> Report:
    """Prepare a model as a training does: method, dtypes, checkpointing."""
    heads = {id(module) for module in head_modules(model)}
    names = [name for name, module in model.named_children() if id(module) in heads]
    report = METHODS[settings.method].apply(model, settings.method_config, names)
    compute_in(model, settings.dtype)
    if settings.checkpointing:
        checkpoint(model, settings.checkpointing)
    model.train()
    return report
