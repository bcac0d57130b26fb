"""The adapters of a set by name: what each one is, and which names are known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.errors import SUGGESTIONS, StateError, suggest
from lorakit.variants import ModuleAdapter


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
    """How many bytes they take."""
    base_verified: bool | None = None
    """As in the report of `lorakit.load_adapter`."""
    unknown_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings in the file that lorakit does not know; they could mean another function."""

    def __str__(self) -> str:
        where = "to be trained" if self.source is None else f"from {self.source}"
        return (
            f"{self.name}: {self.parameters:,} parameters ({self.nbytes:,} bytes) in "
            f"{len(self.modules)} modules, {where}"
        )


def require_new(name: object, known: Collection[str]) -> None:
    """Raise StateError for a name that is taken, or is none."""
    if not isinstance(name, str) or not name:
        raise StateError(f"An adapter's name is a text that is not empty, not {name!r}.")
    if name in known:
        raise StateError(
            f"An adapter called {name!r} is already in this set; unload({name!r}) it first, or "
            "choose another name."
        )


def require_known(names: Iterable[object], known: Collection[str]) -> None:
    """Raise StateError that lists every name that is none of these; None means the base."""
    unknown = dict.fromkeys(n for n in names if n is not None and n not in known)
    if not unknown:
        return
    there = ", ".join(map(repr, known)) if known else "none"
    problems = [
        f"{name!r}{suggest(str(name), known) if at < SUGGESTIONS else ''}"
        for at, name in enumerate(unknown)
    ]
    raise StateError(f"No adapters of these names are in this set, which has {there}:", problems)


def describe(
    name: str, source: str | None, bundle: AdapterBundle, adapters: Mapping[str, ModuleAdapter]
) -> dict[str, Any]:
    """The fields of `Loaded` that a bundle says, whose adapters here are these."""
    owners = (key.rpartition(".")[0] for key in bundle.trained)
    tensors = [t for adapter in adapters.values() for t in adapter.tensors.values()]
    tensors += bundle.trained.values()
    return {
        "name": name,
        "source": source,
        "config": bundle.config,
        "modules": tuple(dict.fromkeys([*adapters, *owners])),
        "parameters": sum(tensor.numel() for tensor in tensors),
        "nbytes": sum(tensor.nbytes for tensor in tensors),
        "unknown_settings": bundle.unknown_settings,
    }
