"""Adapters made from others, from files to files: read, and written with what stood beside them.

Tokenizer, task and stop tokens come along where all that have such a file have the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lorakit.algebra import Deviation, Outcome
from lorakit.algebra.outcome import describe
from lorakit.base_checkpoints.layout import PICKLES, WEIGHTS
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.bundle import unknown_text
from lorakit.checkpoint.formats.registry import FORMATS
from lorakit.checkpoint.writing import default_codec
from lorakit.derivation.replacement import replacement
from lorakit.errors import FormatError, MissingAlphaError, SaveError
from lorakit.files import atomic_write
from lorakit.foreign_files import local_path, read_bytes
from lorakit.runs.adapter_place import place_of
from lorakit.runs.directory import ADAPTER, BESIDE, RECIPE


@dataclass(frozen=True)
class Source:
    """An adapter that was read, and the directory of the files beside it."""

    bundle: AdapterBundle
    directory: Path | None = None


@dataclass(frozen=True)
class Derived:
    """The report of an adapter that was made and written."""

    output: str
    ranks: Mapping[str, int]
    """By module."""
    parameters: int
    """In the adapter."""
    error: Deviation
    unknown_settings: Mapping[str, Any] = field(default_factory=dict)
    """Those in the files of its sources that lorakit does not know, and has not written."""

    def __str__(self) -> str:
        made = describe(self.error, self.ranks)
        lines = [f"{self.output}: {self.parameters:,} parameters, {made}"]
        if self.unknown_settings:
            lines.append(unknown_text(self.unknown_settings))
        return "\n".join(lines)


def open_source(
    name: str,
    lora_alpha: float | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
) -> Source:
    """A run's adapter, or that of a directory, a file or the Hub; raises what reading raises."""
    place = place_of(name, revision, subfolder)
    return Source(place.read(lora_alpha), place.directory())


def require_free(output: Path, overwrite: bool, base: Mapping[str, Any] | None = None) -> None:
    """Raise SaveError if something is there, unless it is an adapter to be replaced.

    A file is read to know that; `base` is the config that formats with names of a base take.
    """
    place = local_path(output)
    if place.name == ADAPTER and (place.parent / RECIPE).is_file():
        raise SaveError(
            f"{output} is the place of the adapter of the run in {output.parent}; pass another "
            "directory with --output."
        )
    is_empty = place.is_dir() and not any(place.iterdir())
    if place.exists() and not is_empty and not overwrite:
        raise SaveError(f"{output} exists already; pass --overwrite to replace the adapter there.")
    if _is_model(place):
        raise SaveError(
            f"{output} holds the weights of a model and no adapter; pass another place."
        )
    if place.is_file():
        _require_adapter(output, place, base)


def _require_adapter(output: Path, place: Path, base: Mapping[str, Any] | None) -> None:
    """Raise SaveError for a file that is none, so that nothing else is lost."""
    try:
        read(place, base=base)
    except MissingAlphaError:
        return  # an adapter of loralib's, whose file does not say it
    except FormatError as error:
        raise SaveError(
            f"{output} is not replaced, as it cannot be read as an adapter; remove it, or pass "
            f"another place. {error.headline}",
            error.problems,
        ) from error


def _is_model(place: Path) -> bool:
    """Whether this is a file with a model's weights, or a directory with one and no adapter's."""
    files = [place] if place.is_file() else place.glob("*")
    if not any(fnmatch(file.name, weights) for file in files for weights in (WEIGHTS, PICKLES)):
        return False
    names = {name for format in FORMATS.values() for name in format.files}
    return not any((place / name).is_file() for name in names)


def write_derived(outcome: Outcome, directories: Sequence[Path | None], output: Path) -> Derived:
    """Write the adapter and what stands in the directories of those that it is made of.

    Raises FormatError for a file there that cannot be read, SaveError if it cannot be written or
    another process or thread writes there; what was there stays.
    """
    common = _common_files(directories)
    with replacement(local_path(output), default_codec(outcome.bundle)):
        path = write(outcome.bundle, output)
        for name in {file.name for file in _beside(path)} - common.keys():
            (path / name).unlink()  # of the adapter that was replaced
        for name, content in common.items():
            with atomic_write(path / name) as file:
                file.write_bytes(content)
    adapters = outcome.bundle.adapters
    return Derived(
        output=str(output),
        ranks={name: adapter.spec.r for name, adapter in adapters.items()},
        parameters=sum(adapter.parameters for adapter in adapters.values()),
        error=outcome.error,
        unknown_settings=outcome.bundle.unknown_settings,
    )


def _common_files(directories: Iterable[Path | None]) -> dict[str, bytes]:
    """The content of each file by its name."""
    found: dict[str, set[bytes]] = {}
    for directory in directories:
        for file in [] if directory is None else _beside(directory):
            try:
                found.setdefault(file.name, set()).add(read_bytes(file))
            except OSError as error:
                raise FormatError(f"{file} cannot be read: {error}") from error
    return {name: contents.pop() for name, contents in found.items() if len(contents) == 1}


def _beside(directory: Path) -> list[Path]:
    return sorted({file for pattern in BESIDE for file in directory.glob(pattern)})
