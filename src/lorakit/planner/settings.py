"""What is planned: one training step of a model with a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lorakit.config.values import is_whole
from lorakit.errors import require, suggest
from lorakit.methods.registry import METHODS, unknown
from lorakit.models.dtypes import Dtype
from lorakit.planner.checkpointing import KINDS, Checkpointing, kind_of
from lorakit.planner.devices.parallels import PARALLELS
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.quantised import QUANTISATIONS, Quantised
from lorakit.tasks.batching import cut
from lorakit.text import plural


@dataclass(frozen=True)
class StepSettings:
    """One training step; raises ConfigError that lists every value that is impossible."""

    method: str = "lora"
    """As in a recipe."""
    config: Any = None
    """The method's config. None: its defaults."""
    batch: int = 8
    """Rows of a step."""
    length: int = 128
    """Tokens of a row, padding included."""
    dtype: Dtype = "bf16"
    """What frozen weights are stored, and products computed in; what trains is float32."""
    optimizer: str = "adamw"
    """A name of `OPTIMIZERS`."""
    checkpointing: Checkpointing = False
    """Gradient checkpointing: activations inside a block are computed again in the backward. True:
    the non-reentrant kind."""
    token_budget: int | None = None
    """Tokens of a micro-batch at most, as in a recipe; a longer row is one of its own. None: a step
    is one micro-batch."""
    passes: int = 1
    """How often the loss reads a row, which counts as often for `token_budget`."""
    quantised: Quantised | None = None
    """How the frozen weights of linear layers are stored, by formula."""
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
            f"dtype is {self.dtype!r}; it must be fp32, bf16 or fp16": self.dtype
            in ("fp32", "bf16", "fp16"),
            f"optimizer is {self.optimizer!r}; it must be one of {', '.join(OPTIMIZERS)}"
            f"{suggest(str(self.optimizer), OPTIMIZERS)}": self.optimizer in (*OPTIMIZERS,),
            f"checkpointing is {self.checkpointing!r}; it must be True, False or one of "
            f"{', '.join(map(str, KINDS))}": kind_of(self.checkpointing) in (False, *KINDS),
            f"quantised is {self.quantised!r}; it must be one of {', '.join(QUANTISATIONS)}": (
                self.quantised in (None, *QUANTISATIONS)
            ),
        }
        checks |= self._counts() | self._devices()
        if self.config is not None and unknown(self.method) is None:
            kind = METHODS[self.method].config_type
            checks[
                f"config is a {type(self.config).__name__}; {self.method} takes a {kind.__name__}"
            ] = isinstance(self.config, kind)
        require(checks, "This step cannot be planned:")

    def _counts(self) -> dict[str, bool]:
        values = {name: getattr(self, name) for name in ("batch", "length", "devices", "passes")}
        if self.token_budget is not None:
            values["token_budget"] = self.token_budget
        return {
            f"{name} is {value!r}; it must be a whole number of at least 1": is_whole(value, 1)
            for name, value in values.items()
        }

    def _devices(self) -> dict[str, bool]:
        fsdp, kinds = self.parallel == "fsdp", (None, *PARALLELS)
        return {
            f"parallel is {self.parallel!r}; it must be one of {', '.join(PARALLELS)}"
            f"{suggest(str(self.parallel), PARALLELS)}": self.parallel in kinds,
            f"parallel is {self.parallel}, and devices is 1; say how many": self.devices != 1
            or self.parallel is None,
            "reshard_after_forward is false, which fsdp alone knows": fsdp
            or self.reshard_after_forward,
            f"quantised is {self.quantised}, and devices is {self.devices}; formulas of several "
            "devices have no quantised base": self.quantised is None or self.devices == 1,
        }

    @property
    def parallelism(self) -> str:
        """The name of the kind of parallelism, the default one for None."""
        return self.parallel or "ddp"

    @property
    def rows(self) -> int:
        """Of the largest micro-batch."""
        if self.token_budget is None:
            return self.batch
        cuts = cut([self.length] * self.batch, max(1, self.token_budget // self.passes))
        return max(stop - start for start, stop in cuts)

    @property
    def step(self) -> str:
        """The step in words, whatever the method."""
        kind = kind_of(self.checkpointing)
        parts = {
            f"micro-batches of {plural(self.rows, 'row')}": self.rows < self.batch,
            f"{kind} checkpointing": kind is not False,
            f"base in {self.quantised} by formula": self.quantised is not None,
        }
        return ", ".join(
            [
                f"{self.batch} x {self.length} tokens in {self.dtype} with {self.optimizer}",
                *(part for part, said in parts.items() if said),
            ]
        )

    @property
    def method_config(self) -> Any:
        """The method's config, its defaults for None."""
        return METHODS[self.method].default_config() if self.config is None else self.config
