"""Write PEFT's files into their directory so that a crash loses nothing.

All files are first written and flushed under temporary names. Then the old config is renamed, the
new tensors replace the old ones, and the new config comes last: at every moment the directory holds
the old adapter or the new one, never parts of both. Between these renames there is no
adapter_config.json; lorakit then reads the config from the header of the new tensor file, or the
renamed old one, and other tools report a missing config instead of mixing two adapters.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from lorakit.checkpoint.formats.peft.layout import (
    CONFIG_NAME,
    PREVIOUS_CONFIG_NAME,
    TENSORS_NAME,
    PeftFiles,
)
from lorakit.checkpoint.formats.peft.model_card import CARD_NAME, is_ours
from lorakit.checkpoint.formats.tensor_files import save_safetensors
from lorakit.checkpoint.header import header_text
from lorakit.errors import SaveError
from lorakit.files import discard, flush, flush_directory, temporary_path
from lorakit.locks import exclusive


def write_directory(directory: Path, files: PeftFiles, card: str) -> None:
    """Write the files and the model card; other files are kept.

    Raises OSError while nothing has changed, and SaveError if another process or thread writes
    there, or once the new tensors are in place and only the other files could not be replaced.
    """
    names = (TENSORS_NAME, CONFIG_NAME, CARD_NAME)
    temporary = {name: temporary_path(directory / name) for name in names}
    with exclusive(directory):
        try:
            _write_temporary(files, card, temporary)
            _replace_tensors(directory, temporary[TENSORS_NAME])
            _replace_the_rest(directory, temporary)
        finally:
            discard(temporary.values())


def _write_temporary(files: PeftFiles, card: str, paths: dict[str, Path]) -> None:
    save_safetensors(files.tensors, paths[TENSORS_NAME], header_text(files.header or {}))
    text = json.dumps(files.config, indent=2, sort_keys=True)
    paths[CONFIG_NAME].write_text(text, encoding="utf-8")
    shutil.copymode(paths[CONFIG_NAME], paths[TENSORS_NAME])  # safetensors creates private files
    paths[CARD_NAME].write_text(card, encoding="utf-8")
    for file in paths.values():
        flush(file)


def _replace_tensors(directory: Path, tensors: Path) -> None:
    """Replace the tensors; from then on the directory holds the new adapter."""
    config, previous = directory / CONFIG_NAME, directory / PREVIOUS_CONFIG_NAME
    for name in (CONFIG_NAME, TENSORS_NAME):
        if (directory / name).is_dir():
            raise IsADirectoryError(f"{name} is a directory")
    if config.exists():
        os.replace(config, previous)
    try:
        os.replace(tensors, directory / TENSORS_NAME)
    except OSError:
        if previous.exists():
            os.replace(previous, config)
        raise


def _replace_the_rest(directory: Path, temporary: dict[str, Path]) -> None:
    try:
        _replace_config_and_card(directory, temporary)
    except OSError as error:
        raise SaveError(
            f"The new tensors are in {directory}, but its other files could not be replaced: "
            f"{error}. lorakit loads the new adapter from there; for other tools, save it again."
        ) from error


def _replace_config_and_card(directory: Path, temporary: dict[str, Path]) -> None:
    config, previous, card = (directory / n for n in (CONFIG_NAME, PREVIOUS_CONFIG_NAME, CARD_NAME))
    keep_card = card.exists() and not (card.is_file() and is_ours(card))
    os.replace(temporary[CONFIG_NAME], config)
    if keep_card:
        temporary[CARD_NAME].unlink()
    else:
        os.replace(temporary[CARD_NAME], card)
    previous.unlink(missing_ok=True)
    flush_directory(directory)
