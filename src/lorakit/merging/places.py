"""Where a merge reads and writes: the base in a directory or on the Hub, and a place of its own."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from lorakit.base_checkpoints.layout import ADAPTER_CONFIG, PICKLES, WEIGHTS
from lorakit.errors import ConfigError, FormatError, SaveError
from lorakit.foreign_files import local_path
from lorakit.merging.adapters import Opened
from lorakit.models.loading import load_config
from lorakit.models.small_files import TEMPLATES, TOKENIZER, download
from lorakit.runs.directory import ADAPTER, RECIPE

_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "NOTICE*")
_OF_A_MODEL = (
    *(WEIGHTS, PICKLES, "*.index.json", "config.json", "generation_config.json"),
    *(*TOKENIZER, *TEMPLATES),
)
"""What any model's directory may have, also where the new one has not."""


def base_of(adapters: Sequence[Opened], base: str | None) -> tuple[str, str | None]:
    """The base that was given or that the adapters name, and its revision.

    Raises ConfigError if they name none, or several.
    """
    if base is not None:
        return base, None
    named = dict.fromkeys((one.base, one.base_revision) for one in adapters if one.base)
    if len(named) == 1:
        ((found, revision),) = named
        assert found is not None
        return found, revision
    if named:
        text = ", ".join(str(name) for name, _ in named)
        raise ConfigError(f"The adapters name several bases, {text}; pass one with --base MODEL.")
    raise ConfigError(
        f"The files of {adapters[0].source} do not name the base model; pass it with --base MODEL."
    )


def base_directory(base: str, revision: str | None) -> Path:
    """The directory of a base, downloaded if it is on the Hub.

    Raises FormatError if it cannot be, for what is no model or is quantised, before any weights
    are fetched, and for a base that holds an adapter.
    """
    directory = local_path(base)
    if directory.exists():
        _require_no_adapter(base, directory)
    load_config(base, revision)
    if not directory.exists():
        directory = download(base, (*_BESIDE, WEIGHTS), revision)
        if not any(directory.glob(WEIGHTS)):
            directory = download(base, (PICKLES,), revision)
        _require_no_adapter(base, directory)
    return directory


def _require_no_adapter(base: str, directory: Path) -> None:
    if (directory / ADAPTER_CONFIG).is_file():
        raise FormatError(
            f"{base} holds an adapter ({ADAPTER_CONFIG}), which would not be applied. Pass its own "
            "base with --base and merge it by itself first, or copy the base's files to a "
            "directory without it."
        )


def require_place(
    output: Path, base: Path, adapters: Sequence[Opened], overwrite: bool = False
) -> None:
    """Raise SaveError for an output that is there already, or where something else belongs.

    `overwrite` allows one that holds a model.
    """
    if local_path(output).exists() and (not output.is_dir() or any(output.iterdir())):
        if not overwrite:
            raise SaveError(
                f"{output} exists already and is not an empty directory; pass a new directory with "
                "--output, or --overwrite."
            )
        if not (output / "config.json").is_file() or (output / ADAPTER_CONFIG).is_file():
            raise SaveError(
                f"{output} is not replaced, as it holds no model (a config.json and no adapter); "
                "pass a new directory with --output."
            )
    if output.name == ADAPTER and (output.parent / RECIPE).is_file():
        raise SaveError(
            f"{output} is the place of the adapter of the run in {output.parent}; pass another "
            "directory with --output."
        )
    here = output.resolve()
    sources = [local_path(one.source) for one in adapters]
    beside = [one.beside for one in adapters if one.beside is not None]
    for what, place in (
        ("the base", base),
        *(("an adapter", place) for place in (*sources, *beside) if place.exists()),
    ):
        there = place.resolve()
        if here == there or here in there.parents:
            raise SaveError(f"{output} holds {what} that is merged; pass another --output.")
        if there in here.parents and what == "the base":
            raise SaveError(f"{output} is inside the base {place}; pass another --output.")


def require_only_a_model(output: Path, new: Path) -> None:
    """Raise SaveError that lists what `output` has and the model in `new` does not replace.

    `new` has all of that model but its weights.
    """
    written = {path.relative_to(new) for path in new.rglob("*")}
    folders = [Path(), *(path for path in written if (new / path).is_dir())]
    found = [path for folder in folders for path in (output / folder).glob("*")]
    others = {path.relative_to(output) for path in found if not _is_of_a_model(path)} - written
    if others:
        raise SaveError(
            f"{output} is not replaced, as more than a model is in it; move that away, or pass a "
            "new directory with --output:",
            sorted(map(str, others)),
        )


def _is_of_a_model(path: Path) -> bool:
    return path.is_file() and any(fnmatch(path.name, pattern) for pattern in _OF_A_MODEL)
