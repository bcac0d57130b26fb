"""From a path or hub id to an AdapterBundle; the format is found by looking, never by guessing."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lorakit.checkpoint import loralib_format
from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.native import Native
from lorakit.checkpoint.peft_decoding import decode
from lorakit.checkpoint.peft_format import PeftFiles, parse_header
from lorakit.checkpoint.releases import RELEASES, fetch, release_of
from lorakit.errors import ConfigError, FormatError, MissingDependencyError, suggest

CONFIG_NAME = "adapter_config.json"
TENSORS_NAME = "adapter_model.safetensors"
LEGACY_NAME = "adapter_model.bin"
ASIDE_NAME = ".adapter_config.json.previous"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def read(
    path: str | Path, lora_alpha: float | None = None, revision: str | None = None
) -> AdapterBundle:
    """Read a PEFT directory, a hub id, a .safetensors file, a loralib .pt/.bin file or a release.

    A release is a name of `releases.RELEASES`; it is downloaded when it is first read, and the
    catalogue says its base and its alpha. Otherwise `lora_alpha` is required where the file cannot
    say it. Pickles are opened with
    `weights_only=True`, so no code in them runs.

    Raises FormatError that says what is wrong with the file, MissingAlphaError for a missing
    `lora_alpha`, MissingDependencyError for a hub id without huggingface_hub, ConfigError for a
    `revision` of a local path.
    """
    local = Path(path)
    release = release_of(path)
    if revision is not None and (local.exists() or release is not None):
        where = "local" if release is None else "a release of microsoft/LoRA"
        raise ConfigError(
            f"revision={revision!r} names a version on the Hub, and {path} is {where}."
        )
    native = Native()
    if native.sniff(local):
        bundle = native.decode(local, lora_alpha)
    elif local.is_dir():
        bundle = _read_directory(local, lora_alpha)
    elif local.is_file():
        bundle = _read_file(local, lora_alpha)
    elif release is not None:
        alpha = release.lora_alpha if lora_alpha is None else lora_alpha
        bundle = replace(_read_file(fetch(release), alpha), base_model=release.base)
    elif _HUB_ID.fullmatch(str(path)):
        bundle = _read_directory(_download(str(path), revision), lora_alpha)
    else:
        near = suggest(str(path), RELEASES)
        raise FormatError(f"There is no adapter at {path}: no such file or directory{near}.")
    broken = [
        f"{name} has {int((~tensor.isfinite()).sum())} of {tensor.numel()} values NaN or infinite"
        for name, tensor in bundle.tensors.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if broken:
        raise FormatError(f"{path} holds values that are not numbers:", broken)
    return bundle


def _read_directory(directory: Path, lora_alpha: float | None) -> AdapterBundle:
    tensors, legacy = directory / TENSORS_NAME, directory / LEGACY_NAME
    if tensors.is_file():
        return _read_safetensors(tensors, lora_alpha)
    # The aside alone is there if a save was interrupted.
    configs = [f for n in (CONFIG_NAME, ASIDE_NAME) if (f := directory / n).is_file()]
    if legacy.is_file() and configs:
        config = _read_config(configs[0])
        return decode(PeftFiles(config, _unpickle(legacy), None), lora_alpha)
    there = ", ".join(sorted(entry.name for entry in directory.iterdir())) or "nothing"
    raise FormatError(f"{directory} is no adapter: it has no {TENSORS_NAME} (there is {there}).")


def _read_file(file: Path, lora_alpha: float | None) -> AdapterBundle:
    if file.suffix == ".safetensors":
        return _read_safetensors(file, lora_alpha)
    if file.name == LEGACY_NAME and (file.parent / CONFIG_NAME).is_file():
        return _read_directory(file.parent, lora_alpha)
    return loralib_format.decode(_unpickle(file), lora_alpha)


def _read_safetensors(file: Path, lora_alpha: float | None) -> AdapterBundle:
    try:
        with safe_open(file, framework="pt") as opened:
            header = parse_header(opened.metadata())
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{file} is damaged or no safetensors file: {error}") from error
    config_file = file.with_name(CONFIG_NAME)
    if config_file.is_file():
        config = _read_config(config_file)
    elif header is not None:
        config = header["config"]  # a save was interrupted, or the file was copied alone
    elif (aside := file.with_name(ASIDE_NAME)).is_file():
        config = _read_config(aside)  # the same, over an adapter of another tool
    else:
        raise FormatError(f"{config_file} is missing, and {file.name} does not say its rank.")
    return decode(PeftFiles(config, tensors, header), lora_alpha)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise FormatError(f"{file} holds a {type(config).__name__}, not a table of settings.")
    return config


def _unpickle(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise FormatError(
            f"{file} is refused: it holds something else than tensors, which might run code. "
            f"({reason})"
        ) from error
    except Exception as error:  # torch's unpickler raises whatever a damaged file leads to
        raise FormatError(f"{file} is damaged or no torch file: {error}") from error


def _download(hub_id: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError(
            f"{hub_id} is no local path; to load it from the Hub: pip install 'lorakit[hub]'"
        ) from error
    wanted = [CONFIG_NAME, TENSORS_NAME, LEGACY_NAME]
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FormatError(
            f"{hub_id} is no local path, and the Hub did not give it: {error}"
        ) from error
