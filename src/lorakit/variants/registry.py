"""The variants by name."""

from __future__ import annotations

from lorakit.errors import ConfigError, suggest
from lorakit.variants.base import Variant
from lorakit.variants.dora import DoRA
from lorakit.variants.lora import LoRA
from lorakit.variants.lora_bias import LoRABias
from lorakit.variants.trainable_tokens import TrainableTokens

VARIANTS: dict[str, Variant] = {
    variant.name: variant for variant in (LoRA(), DoRA(), LoRABias(), TrainableTokens())
}


def register(variant: Variant) -> None:
    """Register a variant, for `LoraConfig(variant=variant.name)`.

    Raises ConfigError if the name is taken.
    """
    if variant.name in VARIANTS:
        raise ConfigError(f"A variant named {variant.name!r} is already registered.")
    VARIANTS[variant.name] = variant


def find(name: str) -> Variant:
    """The variant of this name; raises ConfigError if there is none."""
    if problem := variant_problem(name):
        raise ConfigError("Unknown variant:", [problem])
    return VARIANTS[name]


def adapter_names() -> set[str]:
    """The names of the tensors that an adapter of any variant registers on a module."""
    return {name for variant in VARIANTS.values() for name in variant.tensor_names}


def variant_problem(name: str) -> str | None:
    """The error message for an unknown variant; None for a known one."""
    if name in VARIANTS:
        return None
    known = ", ".join(VARIANTS)
    return f"variant is {name!r}{suggest(name, VARIANTS)}; it must be one of {known}"
