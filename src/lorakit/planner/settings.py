"""What is planned: one training step of a model with a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lorakit.errors import require, suggest
from lorakit.methods.registry import METHODS, unknown
from lorakit.models.dtypes import Dtype
from lorakit.planner.devices.parallels import PARALLELS
from lorakit.planner.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class StepSettings:
    """One training step; raises ConfigError that lists every value that is impossible."""

    method: str = "lora"
    """As in a recipe."""
    config: Any = None
    """The method's config. None: its defaults."""
    batch: int = 8
    """Rows of a micro-batch."""
    length: int = 128
    """Tokens of a row, padding included."""
    dtype: Dtype = "bf16"
    """What frozen weights are stored, and products computed in; what trains is float32."""
    optimizer: str = "adamw"
    """A name of `OPTIMIZERS`."""
    checkpointing: bool = False
    """Gradient checkpointing: activations inside a block are computed again in the backward."""
    max_grad_norm: float = 1.0
    """Gradient clipping; 0: none."""
    devices: int = 1
    """How many take part; `batch` is each one's, or with tp that of all together."""
    parallel: str | None = None
    """A name of `PARALLELS`. None: ddp, if there are several devices."""
    reshard_after_forward: bool = True
    """With fsdp: whether gathered weights are freed after the forward of their block."""

    def __post_init__(self) -> None:
        checks = {problem: False for problem in [unknown(self.method)] if problem}
        checks |= {
            f"batch is {self.batch}; it must be at least 1": self.batch >= 1,
            f"length is {self.length}; it must be at least 1": self.length >= 1,
            f"dtype is {self.dtype!r}; it must be fp32, bf16 or fp16": self.dtype
            in ("fp32", "bf16", "fp16"),
            f"optimizer is {self.optimizer!r}; it must be one of {', '.join(OPTIMIZERS)}"
            f"{suggest(self.optimizer, OPTIMIZERS)}": self.optimizer in OPTIMIZERS,
        }
        checks |= self._devices()
        if self.config is not None and self.method in METHODS:
            kind = METHODS[self.method].config_type
            checks[
                f"config is a {type(self.config).__name__}; {self.method} takes a {kind.__name__}"
            ] = isinstance(self.config, kind)
        require(checks, "This step cannot be planned:")

    def _devices(self) -> dict[str, bool]:
        fsdp, kinds = self.parallel == "fsdp", (None, *PARALLELS)
        return {
            f"devices is {self.devices}; it must be at least 1": self.devices >= 1,
            f"parallel is {self.parallel!r}; it must be one of {', '.join(PARALLELS)}"
            f"{suggest(str(self.parallel), PARALLELS)}": self.parallel in kinds,
            f"parallel is {self.parallel}, and devices is 1; say how many": self.devices != 1
            or self.parallel is None,
            "reshard_after_forward is false, which fsdp alone knows": fsdp
            or self.reshard_after_forward,
        }

    @property
    def parallelism(self) -> str:
        """The name of the kind of parallelism, the default one for None."""
        return self.parallel or "ddp"

    @property
    def step(self) -> str:
        """The step in words, whatever the method."""
        return (
            f"{self.batch} x {self.length} tokens in {self.dtype} with {self.optimizer}"
            f"{', checkpointing' if self.checkpointing else ''}"
        )

    @property
    def method_config(self) -> Any:
        """The method's config, its defaults for None."""
        return METHODS[self.method].default_config() if self.config is None else self.config
