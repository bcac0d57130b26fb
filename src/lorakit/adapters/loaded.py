"""What an adapter of a set is, and what it has for each module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lorakit.adapters.entry import Parts
from lorakit.config import LoraConfig

Where = Literal["device", "host", "disk"]
"""Beside the base's weights, in host memory, or nowhere but in its file."""
_AWAY = {"device": "", "host": ", in host memory", "disk": ", on disk"}


@dataclass(frozen=True)
class Loaded:
    """One adapter of a set."""

    name: str
    """By which the set knows it."""
    source: str | None
    """Where it was loaded from; None if it was added to be trained."""
    config: LoraConfig
    """Its config."""
    modules: tuple[str, ...]
    """The modules in which it runs."""
    parameters: int
    """How many numbers it has."""
    nbytes: int
    """How many bytes they take where they are in memory."""
    base_verified: bool | None = None
    """As in the report of `lorakit.load_adapter`."""
    unknown_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings in the file that lorakit does not know; they could mean another function."""
    where: Where = "device"
    """Where it was when it was listed; beside the base, unless the set has a budget."""

    def __str__(self) -> str:
        where = "to be trained" if self.source is None else f"from {self.source}"
        return (
            f"{self.name}: {self.parameters:,} parameters ({self.nbytes:,} bytes) in "
            f"{len(self.modules)} modules, {where}{_AWAY[self.where]}"
        )


def describe(name: str, source: str | None, config: LoraConfig, parts: Parts) -> Loaded:
    """What an adapter with these parts is."""
    tensors = [tensor for entry in parts.values() for tensor in entry.tensors]
    parameters = sum(tensor.numel() for tensor in tensors)
    nbytes = sum(tensor.nbytes for tensor in tensors)
    return Loaded(name, source, config, tuple(parts), parameters, nbytes)
