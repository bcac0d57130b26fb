"""From the contents of PEFT's files to an AdapterBundle; one error lists everything wrong."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, missing_factors, type_problem
from lorakit.checkpoint.formats.peft.adapter_decoding import decode_adapter, named_in_config
from lorakit.checkpoint.formats.peft.config_decoding import decode_config
from lorakit.checkpoint.formats.peft.layout import (
    EMBEDDING_FACTORS,
    FACTORS,
    MAGNITUDE,
    OUT_PROJ,
    PREFIX,
    PeftFiles,
)
from lorakit.errors import ConfigError, FormatError
from lorakit.variants import adapter_specs

_ALL_FACTORS = FACTORS | EMBEDDING_FACTORS

_WRAPPERS = (
    re.compile(r"\.(modules_to_save|original_module)\."),
    re.compile(r"\.modules_to_save\.[^.]+\."),
)
"""Names in which PEFT keeps a trained module and its original; with bias="all" it saves both again,
with or without the adapter's name, next to the module under its own name."""


def decode(files: PeftFiles, lora_alpha: float | None = None) -> AdapterBundle:
    """The bundle in the files.

    Raises FormatError that lists everything that is wrong: unsupported features, missing and
    unexpected keys, a config that contradicts the tensors.
    """
    config = decode_config(files.config)
    problems = _header_problems(files)
    if lora_alpha is not None and lora_alpha != config.lora_alpha:
        problems.append(
            f"lora_alpha={lora_alpha:g} was passed, but the file says "
            f"lora_alpha={config.lora_alpha:g}"
        )
    pairs, trained, key_problems = _decode_tensors(files.tensors)
    problems += key_problems
    modules = (files.header or {}).get("modules") or {}
    known = {name: named_in_config(name, kind) for name, (_, kind) in pairs.items()}
    try:
        specs = adapter_specs(config, list(dict.fromkeys(known.values())))
    except ConfigError as error:
        raise FormatError(f"Invalid adapter_config.json: {error}") from error
    adapters = {}
    for name, (factors, kind) in pairs.items():
        try:
            spec, saved = specs[known[name]], modules.get(name, {})
            adapters[name] = decode_adapter(factors, kind, spec, saved)
        except FormatError as error:
            problems.append(f"{name}: {error.headline}")
    problems += _magnitude_problems(pairs, modules, config.use_dora)
    if not files.tensors:
        problems.append("it contains no tensors")
    if problems:
        raise FormatError("The adapter is incomplete or inconsistent:", problems)
    header = files.header or {}
    mapping = files.config.get("auto_mapping") or {}
    named = mapping.get("parent_library"), mapping.get("base_model_class")
    base_class: Any = header.get("base_class") or named
    return AdapterBundle(
        config=config,
        adapters=adapters,
        trained=trained,
        base_model=files.config.get("base_model_name_or_path"),
        base_class=(base_class[0], base_class[1]) if all(base_class) else None,
        task_type=files.config.get("task_type"),
        fingerprint=header.get("fingerprint") or None,
        num_labels=header.get("num_labels"),
    )


def _header_problems(files: PeftFiles) -> list[str]:
    """Settings in which adapter_config.json contradicts the header of the tensor file."""
    header = (files.header or {}).get("config")
    if header is None:
        return []
    return [
        f"adapter_config.json says {name}={files.config.get(name)!r}, but the tensors were saved "
        f"with {name}={header.get(name)!r}"
        for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora")
        if files.config.get(name) != header.get(name)
    ]


def _decode_tensors(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, tuple[dict[str, Tensor], str]], dict[str, Tensor], list[str]]:
    """(A, B and m by name, kind of site) by module, other tensors by name, and all problems."""
    found: dict[str, dict[str, Tensor]] = {}
    kinds: dict[str, str] = {}
    trained: dict[str, Tensor] = {}
    extra: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    problems = [p for key, tensor in tensors.items() if (p := type_problem(key, tensor))]
    problems += [
        f"duplicate key: {key} and {PREFIX}{key}" for key in tensors if PREFIX + key in tensors
    ]
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        suffix = next((s for s in _ALL_FACTORS if name.endswith(s)), None)
        if suffix is not None:
            module = name.removesuffix(suffix)
            if suffix in EMBEDDING_FACTORS:
                kinds[module] = "embedding"
            elif module.endswith(OUT_PROJ):
                module = module.replace(OUT_PROJ, ".out_proj")
                kinds[module] = "out_proj"
            elif tensor.ndim > 2:
                kinds[module] = "conv"
            found.setdefault(module, {})[_ALL_FACTORS[suffix]] = tensor
        elif "lora_" in name or ".token_adapter." in name:
            problems.append(f"unexpected key: {key} (this type of adapter is not supported)")
        elif _WRAPPERS[0].search(name):
            extra[key] = [wrapper.sub(".", name) for wrapper in _WRAPPERS]
        else:
            trained[name.replace(".base_layer.", ".")] = tensor
            module = name.rpartition(".base_layer.")[0].replace(".base_layer.", ".")
            owners |= {module: key} if module else {}
    problems += [
        f"{key} belongs to an adapted module, but lora_A and lora_B of {module} are missing"
        for module, key in owners.items()
        if module not in found and f"{module}.out_proj" not in found
    ]
    problems += [
        f"{key} is a second copy that PEFT saves of a tensor, but the tensor itself is missing"
        for key, plain in extra.items()
        if not trained.keys() & set(plain)
    ]
    whole = {module: pair for module, pair in found.items() if {"lora_A", "lora_B"} <= pair.keys()}
    problems += [p for module, pair in found.items() if (p := missing_factors(module, pair))]
    pairs = {module: (pair, kinds.get(module, "linear")) for module, pair in whole.items()}
    return pairs, trained, problems


def _magnitude_problems(
    pairs: Mapping[str, tuple[Mapping[str, Tensor], str]],
    sliced: Container[str],
    use_dora: bool,
) -> Iterator[str]:
    """Missing and unexpected magnitude vectors."""
    for name, (tensors, _) in pairs.items():
        if (MAGNITUDE[1:] in tensors) != use_dora:
            wrong = "is missing" if use_dora else "is unexpected"
            yield f"{name}: lora_magnitude_vector {wrong}; the config says use_dora={use_dora}"
        elif use_dora and name in sliced:
            yield f"{name}: lora_magnitude_vector is not supported for a weight adapted in slices"
