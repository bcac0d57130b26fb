"""From an AdapterBundle to PEFT's directory, so that a crash loses nothing.

All files are written and flushed under temporary names first. Then the old config steps aside, the
tensors take their place, and the new config comes last: at every moment the directory holds the old
adapter or the new one, never parts of both. Between these renames there is no adapter_config.json;
lorakit then reads the config from the new tensor file's header or the old config from where it
stepped, and other tools say that the directory is incomplete instead of mixing two adapters.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.native import Native
from lorakit.checkpoint.model_card import is_ours, model_card
from lorakit.checkpoint.peft_encoding import encode
from lorakit.checkpoint.peft_format import PeftFiles, header_text
from lorakit.checkpoint.reading import ASIDE_NAME, CONFIG_NAME, TENSORS_NAME
from lorakit.errors import SaveError

CARD_NAME = "README.md"


def write(bundle: AdapterBundle, path: str | Path) -> Path:
    """Write the bundle as a PEFT directory; other files in it stay.

    Raises SaveError if that fails; what was there before is then untouched, unless the error says
    that the new tensors are there and only the files beside them are missing.
    """
    directory = Path(path)
    if bundle.method != "lora":
        native = Native()
        if problems := native.problems(bundle):
            raise SaveError(f"{directory} cannot be written:", problems)
        try:
            native.write(bundle, directory)
        except (OSError, SafetensorError) as error:
            raise SaveError(f"It could not be saved to {directory}: {error}.") from error
        return directory
    files = encode(bundle)
    temporary = {
        name: directory / f".{name}.{os.getpid()}.tmp"
        for name in (TENSORS_NAME, CONFIG_NAME, CARD_NAME)
    }
    created = [p for p in (directory, *directory.parents) if not p.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write_temporary(bundle, files, temporary)
        _replace_tensors(directory, temporary[TENSORS_NAME])
    except BaseException as error:
        _clean(temporary.values(), created)
        if not isinstance(error, Exception):
            raise
        raise SaveError(
            f"The adapter could not be saved to {directory}: {error}. Nothing there was changed."
        ) from error
    try:
        _replace_the_rest(directory, temporary)
    except OSError as error:
        _clean(temporary.values(), ())
        raise SaveError(
            f"The new tensors are in {directory}, but its other files could not be replaced: "
            f"{error}. lorakit reads the new adapter from there; save again for other tools."
        ) from error
    return directory


def _write_temporary(bundle: AdapterBundle, files: PeftFiles, paths: dict[str, Path]) -> None:
    save_file(files.tensors, paths[TENSORS_NAME], metadata=header_text(files.header or {}))
    text = json.dumps(files.config, indent=2, sort_keys=True)
    paths[CONFIG_NAME].write_text(text, encoding="utf-8")
    shutil.copymode(paths[CONFIG_NAME], paths[TENSORS_NAME])  # safetensors makes it private
    paths[CARD_NAME].write_text(model_card(bundle), encoding="utf-8")
    for file in paths.values():
        _flush(file)


def _replace_tensors(directory: Path, tensors: Path) -> None:
    """The moment at which the new adapter becomes the one that is there."""
    config, aside = directory / CONFIG_NAME, directory / ASIDE_NAME
    for name in (CONFIG_NAME, TENSORS_NAME):
        if (directory / name).is_dir():
            raise IsADirectoryError(f"{name} is a directory there")
    if config.exists():
        os.replace(config, aside)
    try:
        os.replace(tensors, directory / TENSORS_NAME)
    except OSError:
        if aside.exists():
            os.replace(aside, config)
        raise


def _replace_the_rest(directory: Path, temporary: dict[str, Path]) -> None:
    config, aside, card = (directory / n for n in (CONFIG_NAME, ASIDE_NAME, CARD_NAME))
    keep_card = card.exists() and not (card.is_file() and is_ours(card))
    os.replace(temporary[CONFIG_NAME], config)
    if keep_card:
        temporary[CARD_NAME].unlink()
    else:
        os.replace(temporary[CARD_NAME], card)
    aside.unlink(missing_ok=True)
    if os.name == "posix":
        _flush(directory)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clean(files: Iterable[Path], directories: Iterable[Path]) -> None:
    """Take away what was made; `directories` innermost first."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()  # only an empty one goes
