"""PEFT's format as a codec: recognise, read and write its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.checksum import CHECKSUM
from lorakit.checkpoint.formats.adapterhub import is_of_adapterhub
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.formats.mlx_directory import is_of_mlx
from lorakit.checkpoint.formats.peft.alike import recall, remember
from lorakit.checkpoint.formats.peft.decoding import decode
from lorakit.checkpoint.formats.peft.encoding import encode, has_pefts_variants, unsupported
from lorakit.checkpoint.formats.peft.layout import (
    CONFIG_NAME,
    EMBEDDING_FACTORS,
    FACTORS,
    LEGACY_NAME,
    PREFIX,
    PREVIOUS_CONFIG_NAME,
    TENSORS_NAME,
    PeftFiles,
    parse_header,
)
from lorakit.checkpoint.formats.peft.model_card import model_card
from lorakit.checkpoint.formats.peft.prompt_tuning import has_prompt
from lorakit.checkpoint.formats.peft.writing import write_directory
from lorakit.checkpoint.formats.pipelines import is_of_image_models
from lorakit.checkpoint.formats.tensor_files import (
    load_pickle,
    load_safetensors,
    peek_safetensors,
    plain_tensors,
)
from lorakit.checkpoint.header import parse_table
from lorakit.errors import FormatError
from lorakit.foreign_files import read_json


class Peft(Codec):
    """A directory with adapter_config.json, or one of its tensor files."""

    name = "peft"
    files = (CONFIG_NAME, TENSORS_NAME, LEGACY_NAME)

    def sniff(self, path: Path) -> bool:
        if has_prompt(path):
            return False
        if path.name != TENSORS_NAME and (is_of_image_models(path) or is_of_mlx(path)):
            return False
        if path.is_dir():
            others = is_of_adapterhub(path) or is_of_mlx(path)
            configured = _config_of(path) is not None and not others
            return (path / TENSORS_NAME).is_file() or configured
        if path.suffix == ".safetensors":
            return path.name == TENSORS_NAME or _has_peft_names(path)
        return path.name == LEGACY_NAME and _config_of(path.parent) is not None

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        file = _tensor_file(path) if path.is_dir() else path
        read = _read_safetensors if file.suffix == ".safetensors" else _read_legacy
        files = read(file)
        bundle = recall(files, lora_alpha)
        if bundle is None:
            bundle = decode(files, lora_alpha)
            remember(files, lora_alpha, bundle)
        return bundle

    def is_default_for(self, bundle: AdapterBundle) -> bool:
        return bundle.method == "lora" and has_pefts_variants(bundle)

    def problems(self, bundle: AdapterBundle) -> list[str]:
        return unsupported(bundle)

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        write_directory(path, encode(bundle), model_card(bundle))


def _config_of(directory: Path) -> Path | None:
    """The config file; after an interrupted save it may still have its temporary name."""
    candidates = (directory / name for name in (CONFIG_NAME, PREVIOUS_CONFIG_NAME))
    return next((file for file in candidates if file.is_file()), None)


def _has_peft_names(file: Path) -> bool:
    """Whether the header has PEFT's config or, where lorakit did not write it, PEFT's names."""
    keys, metadata = peek_safetensors(file)
    header = parse_table(metadata)
    if header is not None:
        return "config" in header
    is_named = any(
        key.startswith(PREFIX) or key.endswith((*FACTORS, *EMBEDDING_FACTORS)) for key in keys
    )
    return is_named or file.with_name(CONFIG_NAME).is_file()


def _tensor_file(directory: Path) -> Path:
    for name in (TENSORS_NAME, LEGACY_NAME):
        if (directory / name).is_file():
            return directory / name
    there = ", ".join(sorted(entry.name for entry in directory.iterdir()))
    raise FormatError(
        f"{directory} is not a PEFT adapter: {TENSORS_NAME} is missing (found {there})."
    )


def _read_legacy(file: Path) -> PeftFiles:
    config = _config_of(file.parent)
    assert config is not None
    return PeftFiles(_read_config(config), plain_tensors(load_pickle(file)), None)


def _read_safetensors(file: Path) -> PeftFiles:
    tensors, metadata = load_safetensors(file)
    header = parse_header(metadata)
    config_file, previous = (file.with_name(name) for name in (CONFIG_NAME, PREVIOUS_CONFIG_NAME))
    if config_file.is_file():
        config = _read_config(config_file)
    elif header is not None:
        config = header["config"]  # a save was interrupted, or the file was copied alone
    elif previous.is_file():
        config = _read_config(previous)  # the same, over an adapter of another tool
    else:
        raise FormatError(f"{config_file} is missing, and {file.name} does not contain the config.")
    return PeftFiles(config, tensors, header, metadata.get(CHECKSUM))


def _read_config(file: Path) -> dict[str, Any]:
    config = read_json(file)
    if not isinstance(config, dict):
        raise FormatError(f"{file} must contain a dict, got {type(config).__name__}.")
    return config
