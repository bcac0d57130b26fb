"""PEFT's files into their directory, so that a crash loses nothing.

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
from pathlib import Path

from safetensors.torch import save_file

from lorakit.checkpoint.formats.peft.layout import (
    ASIDE_NAME,
    CONFIG_NAME,
    TENSORS_NAME,
    PeftFiles,
)
from lorakit.checkpoint.formats.peft.model_card import CARD_NAME, is_ours
from lorakit.checkpoint.header import header_text
from lorakit.errors import SaveError
from lorakit.files import (
    directory_for_writing,
    discard,
    flush,
    flush_directory,
    temporary_path,
)


def write_directory(directory: Path, files: PeftFiles, card: str) -> None:
    """Put the files and the model card there; other files stay.

    Raises what the operating system says while nothing there has changed, and SaveError once the
    new tensors are there and only the files beside them are missing.
    """
    names = (TENSORS_NAME, CONFIG_NAME, CARD_NAME)
    temporary = {name: temporary_path(directory / name) for name in names}
    with directory_for_writing(directory):
        try:
            _write_temporary(files, card, temporary)
            _replace_tensors(directory, temporary[TENSORS_NAME])
        except BaseException:
            discard(temporary.values())
            raise
    try:
        _replace_the_rest(directory, temporary)
    except OSError as error:
        discard(temporary.values())
        raise SaveError(
            f"The new tensors are in {directory}, but its other files could not be replaced: "
            f"{error}. lorakit loads the new adapter from there; for other tools, save it again."
        ) from error


def _write_temporary(files: PeftFiles, card: str, paths: dict[str, Path]) -> None:
    save_file(files.tensors, paths[TENSORS_NAME], metadata=header_text(files.header or {}))
    text = json.dumps(files.config, indent=2, sort_keys=True)
    paths[CONFIG_NAME].write_text(text, encoding="utf-8")
    shutil.copymode(paths[CONFIG_NAME], paths[TENSORS_NAME])  # safetensors makes it private
    paths[CARD_NAME].write_text(card, encoding="utf-8")
    for file in paths.values():
        flush(file)


def _replace_tensors(directory: Path, tensors: Path) -> None:
    """The moment at which the new adapter becomes the one that is there."""
    config, aside = directory / CONFIG_NAME, directory / ASIDE_NAME
    for name in (CONFIG_NAME, TENSORS_NAME):
        if (directory / name).is_dir():
            raise IsADirectoryError(f"{name} is a directory")
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
    flush_directory(directory)
