"""The settings of one module's adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lorakit.config import LoraConfig, is_number, scaling
from lorakit.errors import ConfigError


@dataclass(frozen=True)
class AdapterSpec:
    """Rank, scaling, variant and dropout of one module's adapter; rank 0 means no adapter."""

    r: int
    """Rank."""
    lora_alpha: float = 1
    """Numerator of `scaling`."""
    lora_dropout: float = 0.0
    """Probability of dropping an input of A."""
    merge_weights: bool = True
    """Whether evaluation computes with a merged weight."""
    use_rslora: bool = False
    """Whether `scaling` is alpha / sqrt(r)."""
    init_lora_weights: bool | Literal["gaussian"] = True
    """How A and B start, as in `LoraConfig`."""
    variant: str = "lora"
    """Its name in `lorakit.variants.VARIANTS`."""

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.r, int) or isinstance(self.r, bool) or self.r < 0:
            problems.append(f"r is {self.r!r}; it must be an integer >= 0 (0: no adapter)")
        if not is_number(self.lora_alpha):
            problems.append(f"lora_alpha is {self.lora_alpha!r}; it must be a finite number")
        if not is_number(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout!r}; it must be in [0, 1)")
        if problems:
            raise ConfigError("Invalid settings for a LoRA layer:", problems)

    @property
    def scaling(self) -> float:
        """The factor of B @ A: lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA."""
        return scaling(self.r, self.lora_alpha, self.use_rslora) if self.r else 0.0


def adapter_specs(config: LoraConfig, names: Sequence[str]) -> dict[str, AdapterSpec]:
    """The settings that `config` has for each of the modules called `names`."""
    ranks, alphas = config.ranks_of(names), config.alphas_of(names)
    return {
        name: AdapterSpec(
            r=ranks[name],
            lora_alpha=alphas[name],
            lora_dropout=config.lora_dropout,
            merge_weights=config.merge_weights,
            use_rslora=config.use_rslora,
            init_lora_weights=config.init_lora_weights,
            variant=config.variant,
        )
        for name in names
    }
