"""The file formats by name; `register` adds others."""

from __future__ import annotations

import os
from pathlib import Path

from lorakit.checkpoint.formats.adapterhub import AdapterHub
from lorakit.checkpoint.formats.codec import Decoder
from lorakit.checkpoint.formats.gguf.codec import Gguf
from lorakit.checkpoint.formats.image_models.diffusers import Diffusers
from lorakit.checkpoint.formats.image_models.kohya import Kohya
from lorakit.checkpoint.formats.loralib import Loralib
from lorakit.checkpoint.formats.mlx import Mlx
from lorakit.checkpoint.formats.native import Native
from lorakit.checkpoint.formats.peft.codec import Peft
from lorakit.checkpoint.formats.peft.portable import Portable, Vllm
from lorakit.checkpoint.formats.peft.prompt_tuning import PromptTuning
from lorakit.errors import ConfigError, FormatError

FORMATS: dict[str, Decoder] = {}
"""In the order in which `write` asks them whether a bundle of its kind is theirs."""
NATIVE = Native()
"""What is written where none of them says so."""
_DEEPEST, _SHOWN = 3, 8


def register(codec: Decoder) -> None:
    """Add a format: `read`, `write`, `load_adapter` and `lorakit inspect` then know `codec`.

    Raises ConfigError if its name is taken.
    """
    if codec.name in FORMATS:
        raise ConfigError(f"A file format named {codec.name!r} is already registered.")
    FORMATS[codec.name] = codec


def format_of(path: Path) -> Decoder:
    """The one format of this file or directory.

    Raises FormatError that says what was found if it is none, or names them if there are several.
    """
    fitting = [codec for codec in FORMATS.values() if codec.sniff(path)]
    known = [codec for codec in fitting if not codec.is_fallback] or fitting
    if len(known) > 1:
        names = " and ".join(codec.name for codec in known)
        raise FormatError(
            f"{path} contains adapters in more than one format: {names}. Pass the path of one "
            "file, or move the others away."
        )
    if not known:
        raise FormatError(f"{path} is not an adapter in a known format: {_found(path)}.")
    return known[0]


def _found(path: Path) -> str:
    """What was found instead of an adapter."""
    names = ", ".join(FORMATS)
    if path.is_file():
        return f"neither its name nor its header matches any of {names}"
    wanted = ", ".join(dict.fromkeys(n for codec in FORMATS.values() for n in codec.files))
    there = ", ".join(sorted(entry.name for entry in path.iterdir())) if path.is_dir() else ""
    found = f"expected one of {wanted}, found {there or 'nothing'} (formats: {names})"
    if inside := adapters_within(path):
        more = f" and {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
        those = ", ".join(inside[:_SHOWN]) + more
        found += f"; of those in {those}, name one with subfolder (--subfolder)"
    elif not there:  # of a repository on the Hub, nothing else is downloaded
        found += "; where it is in a folder of a repository, name that with subfolder (--subfolder)"
    return found


def adapters_within(directory: Path) -> list[str]:
    """The folders in a directory, at most three deep, that have files of adapters."""
    names = {name for codec in FORMATS.values() for name in codec.files}
    found = []
    for place, folders, files in os.walk(directory):
        parts = Path(place).relative_to(directory).parts
        if parts and not names.isdisjoint(files):
            found.append("/".join(parts))
        if len(parts) == _DEEPEST:
            folders.clear()
    return sorted(found)


for _codec in (
    Peft(),
    NATIVE,
    AdapterHub(),
    PromptTuning(),
    Loralib(),
    Portable(),
    Vllm(),
    Gguf(),
    Diffusers(),
    Kohya(),
    Mlx(),
):
    register(_codec)
