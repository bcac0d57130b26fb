"""The adapters of a merge: what each is, where it stands, and the weight that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorakit.checkpoint import AdapterBundle
from lorakit.config import is_number
from lorakit.errors import ConfigError, TargetError
from lorakit.layer_groups import group_layers
from lorakit.runs.adapter_place import AdapterPlace, place_of

Weighted = Sequence[tuple[str | Path, float]]
"""Adapters, or the runs that made them, and their weights."""


@dataclass(frozen=True)
class Opened:
    """An adapter that was read."""

    source: str
    """The adapter itself: that of a run, where a run was named."""
    weight: float
    bundle: AdapterBundle
    base: str | None
    """The base that it was trained on, as the run or the files name it."""
    base_revision: str | None
    beside: Path | None
    """The directory with its tokenizer and its task."""


def open_adapters(
    adapters: Weighted,
    lora_alpha: float | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
) -> list[Opened]:
    """Read each adapter; raises as `lorakit.checkpoint.read` and `place_of` do.

    ConfigError for what is no path, and a weight that is no number or 0, TargetError for a sum of
    what has none.
    """
    _require_pairs(adapters)
    wrong = [f"{name}={w!r}" for name, w in adapters if not is_number(w) or w == 0]
    if wrong:
        raise ConfigError(f"Weights must be finite numbers other than 0; got {', '.join(wrong)}.")
    opened = [
        _open(place_of(name, revision, subfolder), weight, lora_alpha) for name, weight in adapters
    ]
    if [one.weight for one in opened] != [1.0]:
        _require_sums(opened)
    return opened


def _require_pairs(adapters: object) -> None:
    """Raise ConfigError for what are no pairs of a path and something else."""
    if not isinstance(adapters, list | tuple):
        adapters = [adapters]
    if not adapters:
        raise ConfigError("No adapter was given to merge.")
    problems = []
    for n, pair in enumerate(adapters, 1):
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        source = pair[0] if is_pair else pair
        if isinstance(source, AdapterBundle):
            problems.append(
                f"adapter {n} is in memory; write it to a directory with lorakit.checkpoint.write "
                "and pass that, or load it onto a model (lorakit.load_adapter) and merge there"
            )
        elif not is_pair:
            problems.append(f"adapter {n} is a {type(pair).__name__}; pass a pair (path, weight)")
        elif not isinstance(source, str | Path):
            problems.append(f"adapter {n} is a {type(source).__name__}; pass a path or a hub id")
    if problems:
        raise ConfigError("What is merged from file to file are paths with weights:", problems)


def _open(place: AdapterPlace, weight: float, lora_alpha: float | None) -> Opened:
    bundle, run = place.read(lora_alpha), place.run
    return Opened(
        str(place),
        weight,
        bundle,
        base=bundle.base_model if run is None else run.recipe.base,
        base_revision=None if run is None else run.recipe.revision,
        beside=place.directory(),
    )


def _require_sums(opened: Sequence[Opened]) -> None:
    """Raise TargetError for adapters whose updates are no sum of the base's and of their own."""
    problems = [
        (
            name,
            f"{one.source} has {adapter.variant.title}, which {adapter.variant.beyond_product}",
        )
        for one in opened
        for name, adapter in one.bundle.adapters.items()
        if not adapter.variant.is_low_rank
    ]
    problems += [
        (name, f"{one.source} was trained in full there, which a negative weight cannot take back")
        for one in opened
        if one.weight < 0
        for name in one.bundle.trained.keys() - one.bundle.base_copies.keys()
    ]
    if problems:
        raise TargetError(
            "These adapters can only be merged alone, with the weight 1:", group_layers(problems)
        )
