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
from pathlib import Path

from safetensors.torch import save_file

from lorakit.checkpoint import peft_format
from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.model_card import is_ours, model_card
from lorakit.checkpoint.reading import ASIDE_NAME, CONFIG_NAME, TENSORS_NAME
from lorakit.errors import SaveError

CARD_NAME = "README.md"


def write(bundle: AdapterBundle, path: str | Path) -> Path:
    """Write the bundle as a PEFT directory; other files in it stay.

    Raises SaveError if that fails; what was there before is then untouched.
    """
    directory = Path(path)
    files = peft_format.encode(bundle)
    temporary = {
        name: directory / f".{name}.{os.getpid()}.tmp"
        for name in (TENSORS_NAME, CONFIG_NAME, CARD_NAME)
    }
    card = directory / CARD_NAME
    created: list[Path] = []
    try:
        created = _make_directory(directory)
        metadata = peft_format.header_text(files.header or {})
        save_file(files.tensors, temporary[TENSORS_NAME], metadata=metadata)
        text = json.dumps(files.config, indent=2, sort_keys=True)
        temporary[CONFIG_NAME].write_text(text, encoding="utf-8")
        temporary[CARD_NAME].write_text(model_card(bundle), encoding="utf-8")
        for file in temporary.values():
            _flush(file)
    except Exception as error:
        _clean(temporary.values(), created)
        raise SaveError(
            f"The adapter could not be saved to {directory}: {error}. Nothing there was changed."
        ) from error
    _put_in_place(directory, temporary, keep_card=card.exists() and not is_ours(card))
    return directory


def _make_directory(directory: Path) -> list[Path]:
    """Make it and its parents; those that were not there, innermost first."""
    missing = [p for p in (directory, *directory.parents) if not p.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing


def _put_in_place(directory: Path, temporary: dict[str, Path], keep_card: bool) -> None:
    if (directory / CONFIG_NAME).exists():
        os.replace(directory / CONFIG_NAME, directory / ASIDE_NAME)
    os.replace(temporary[TENSORS_NAME], directory / TENSORS_NAME)
    os.replace(temporary[CONFIG_NAME], directory / CONFIG_NAME)
    if keep_card:
        temporary[CARD_NAME].unlink()
    else:
        os.replace(temporary[CARD_NAME], directory / CARD_NAME)
    (directory / ASIDE_NAME).unlink(missing_ok=True)
    if os.name == "posix":
        _flush(directory)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clean(files: object, directories: list[Path]) -> None:
    for file in files:  # type: ignore[attr-defined]
        file.unlink(missing_ok=True)
    for directory in directories:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
