"""The parts of a pipeline that an adapter can be for: the first part of a name in diffusers' files.

An adapter that was saved from one part has that part's own names, and its class says which it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.tensor_files import peek_safetensors
from lorakit.checkpoint.header import HEADER, parse_table

COMPONENTS = (
    "unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3",
)  # fmt: skip
METADATA = "lora_adapter_metadata"
"""The key of diffusers' configs in a safetensors header."""
DIFFUSERS_NAME = "pytorch_lora_weights.safetensors"
KOHYA_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
KOHYA_ALONE = "lora_te_"
"""Of the text encoder, where there is one."""

_CLASSES = {
    "diffusers.models.unets.": "unet",
    "diffusers.models.transformers.": "transformer",
    "transformers.models.clip.": "text_encoder",
}
"""How the module of a class begins -> which part it is."""


def component_of(name: str) -> str | None:
    """The part that a module's name begins with."""
    first = name.partition(".")[0]
    return first if first in COMPONENTS else None


def names_in_pipeline(bundle: AdapterBundle) -> dict[str, str]:
    """Name of a module -> its name in a pipeline, which begins with the part that it is of.

    A name that says no part, of a class that is none, stays.
    """
    library = bundle.base_class[0] if bundle.base_class else ""
    part = next((p for begin, p in _CLASSES.items() if library.startswith(begin)), None)
    whole = all(component_of(name) for name in bundle.adapters)
    return {
        name: with_text_model(name if whole or part is None else f"{part}.{name}")
        for name in bundle.adapters
    }


def with_text_model(name: str) -> str:
    """A text encoder's name as files have it: transformers 5 has left out `text_model`."""
    part, _, rest = name.partition(".")
    moved = part.startswith("text_encoder") and rest.startswith(("encoder.", "embeddings."))
    return f"{part}.text_model.{rest}" if moved else name


def unnamed(names: Mapping[str, str]) -> list[str]:
    """The problem of names in a pipeline without a part, if there are any."""
    bare = [name for name in names.values() if component_of(name) is None]
    if not bare:
        return []
    return [
        f"{bare[0]} does not say which part of a pipeline it is of ({', '.join(COMPONENTS)}); "
        r"name it: --rename '^=unet.'"
    ]


def is_of_diffusers(path: Path) -> bool:
    """Whether this is a directory or a file of diffusers', by its names and header."""
    if path.is_dir():
        return (path / DIFFUSERS_NAME).is_file()
    if path.name == DIFFUSERS_NAME:
        return True
    if path.suffix != ".safetensors":
        return False
    keys, metadata = peek_safetensors(path)
    if METADATA in metadata:
        return True
    if HEADER in metadata and "config" in (parse_table(metadata) or {}):
        return False  # lorakit's file in PEFT's format
    return bool(keys) and all(component_of(key) and ".lora_" in key for key in keys)


def is_of_kohya(path: Path) -> bool:
    """Whether this is a file of kohya's, by its names."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    begins = (*KOHYA_PREFIXES.values(), KOHYA_ALONE)
    return any(key.startswith(begins) for key in peek_safetensors(path)[0])


def is_of_image_models(path: Path) -> bool:
    """Whether it is of either."""
    return is_of_diffusers(path) or is_of_kohya(path)
