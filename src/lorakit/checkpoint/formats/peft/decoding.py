"""From the contents of PEFT's files to an AdapterBundle; one error lists everything wrong."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, missing_factors, type_problem
from lorakit.checkpoint.formats.peft import trained_names
from lorakit.checkpoint.formats.peft.adapter_decoding import decode_adapter, named_in_config
from lorakit.checkpoint.formats.peft.config_decoding import decode_config, unknown_settings
from lorakit.checkpoint.formats.peft.endings import Endings
from lorakit.checkpoint.formats.peft.layout import (
    ALL_FACTORS,
    CLASS_FIELDS,
    DEFAULTS,
    EMBEDDING_FACTORS,
    MAGNITUDE,
    OUT_PROJ,
    PREFIX,
    TRANSPOSED,
    PeftFiles,
)
from lorakit.checkpoint.formats.peft.parameters import parameter_names
from lorakit.checkpoint.formats.peft.token_rows import FIELD, decode_rows, split_tensors
from lorakit.checkpoint.formats.raw_keys import plain_keys
from lorakit.checkpoint.settings import targets_of
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, FormatError
from lorakit.variants import ModuleAdapter, adapter_specs
from lorakit.variants.lora_bias import OFFSET, LoRABias

Pairs = dict[str, tuple[dict[str, Tensor], str]]
"""(A, B and m by name, kind of site) by module."""


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
    tensors, key_problems = plain_keys(files.tensors)
    rows, tensors, twice = split_tensors(tensors)
    pairs, trained, tensor_problems = _decode_tensors(tensors, config.modules_to_save or ())
    pairs, unclear = _with_parameters(pairs, config)
    adapters, row_problems = decode_rows(rows, files.config)
    others, pair_problems = _decode_pairs(pairs, config, files)
    problems += [*key_problems, *twice, *tensor_problems, *unclear, *row_problems, *pair_problems]
    adapters |= others
    if not files.tensors:
        problems.append("it contains no tensors")
    if problems:
        raise FormatError("The adapter is incomplete or inconsistent:", problems)
    header = files.header or {}
    mapping = files.config.get("auto_mapping") or {}
    base_class: Any = header.get("base_class") or tuple(map(mapping.get, CLASS_FIELDS))
    # PEFT then adapts what is tied to a target as well, without naming it.
    adapts_ties = bool(files.config.get("ensure_weight_tying"))
    return AdapterBundle(
        config=config.replace(**targets_of(adapters)) if adapts_ties else config,
        adapters=adapters,
        trained=trained,
        base_model=files.config.get("base_model_name_or_path"),
        base_class=(base_class[0], base_class[1]) if all(base_class) else None,
        task_type=files.config.get("task_type"),
        fingerprint=header.get("fingerprint") or None,
        num_labels=header.get("num_labels"),
        targets_stated=not adapts_ties,
        unknown_settings=unknown_settings(files.config),
        checksum=files.checksum,
    )


def _decode_pairs(
    pairs: Pairs, config: LoraConfig, files: PeftFiles
) -> tuple[dict[str, ModuleAdapter], list[str]]:
    """The adapters, and all problems; raises FormatError for a rank or alpha that cannot be."""
    modules = (files.header or {}).get("modules") or {}
    known = {name: named_in_config(name, kind) for name, (_, kind) in pairs.items()}
    try:
        specs = adapter_specs(config, list(dict.fromkeys(known.values())))
    except ConfigError as error:
        raise FormatError(f"Invalid adapter_config.json: {error}") from error
    adapters, problems = {}, []
    for name, (factors, kind) in pairs.items():
        try:
            spec, saved = specs[known[name]], modules.get(name, {})
            turned = kind in _TURNED and _is_transposed(name, kind, files)
            adapters[name] = decode_adapter(factors, kind, spec, saved, turned)
        except FormatError as error:
            problems.append(f"{name}: {error.headline}")
    problems += _magnitude_problems(pairs, modules, config.use_dora)
    problems += _offset_problems(pairs, config.variant == LoRABias.name)
    return adapters, problems


def _is_transposed(module: str, kind: str, files: PeftFiles) -> bool:
    """Whether a weight is stored (in, out), as GPT-2's linear layers and gpt-oss' experts are.

    PEFT has one value for all linear layers, and none for experts; lorakit's header lists all of
    them where it wrote the file.
    """
    listed = (files.header or {}).get(TRANSPOSED)
    if listed is not None:
        return module in listed
    return kind == "linear" and bool(files.config.get("fan_in_fan_out"))


_TURNED = ("linear", "parameter")


def _header_problems(files: PeftFiles) -> list[str]:
    """Settings in which adapter_config.json contradicts the header of the tensor file."""
    header = (files.header or {}).get("config")
    if header is None:
        return []
    names = (
        "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", FIELD,
        "target_parameters", "lora_bias",
    )  # fmt: skip
    here, there = ({n: c.get(n, DEFAULTS.get(n)) for n in names} for c in (files.config, header))
    return [
        f"adapter_config.json says {name}={here[name]!r}, but the tensors were saved with "
        f"{name}={there[name]!r}"
        for name in names
        if here[name] != there[name]
    ]


def _decode_tensors(
    tensors: Mapping[str, Tensor], saved: Sequence[str]
) -> tuple[Pairs, dict[str, Tensor], list[str]]:
    """The adapters, other tensors by name, and all problems; `saved` is `modules_to_save`."""
    problems = [p for key, tensor in tensors.items() if (p := type_problem(key, tensor))]
    problems += [
        f"duplicate key: {key} and {PREFIX}{key}" for key in tensors if PREFIX + key in tensors
    ]
    factors, kinds, rest = _split_factors(tensors)
    trained, odd, inside = {}, [], Endings(saved)
    for key, tensor in rest.items():
        name = trained_names.decoded(key.removeprefix(PREFIX), factors, inside)
        if name is None:
            odd.append(key)
        else:
            trained[name] = tensor
    problems += [p for key in odd if (p := trained_names.refusal(key, trained))]
    whole = {
        module: pair for module, pair in factors.items() if {"lora_A", "lora_B"} <= pair.keys()
    }
    problems += [p for module, pair in factors.items() if (p := missing_factors(module, pair))]
    return (
        {name: (pair, kinds.get(name, "linear")) for name, pair in whole.items()},
        trained,
        problems,
    )


def _with_parameters(pairs: Pairs, config: LoraConfig) -> tuple[Pairs, list[str]]:
    """The pairs, those of parameters under the names of these, and what cannot be told."""
    parameters, problems = parameter_names(pairs, config)
    problems += [
        f"{name} is adapted twice, as a module and as a parameter"
        for name in pairs.keys() & set(parameters.values())
    ]
    named = {
        parameters.get(name, name): (factors, "parameter" if name in parameters else kind)
        for name, (factors, kind) in pairs.items()
    }
    return named, problems


def _split_factors(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str], dict[str, Tensor]]:
    """A, B and m by module and name, the kind of site of each module, and all other tensors."""
    factors: dict[str, dict[str, Tensor]] = {}
    kinds: dict[str, str] = {}
    rest: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        suffix = next((s for s in ALL_FACTORS if name.endswith(s)), None)
        if suffix is None:
            rest[key] = tensor
            continue
        module = name.removesuffix(suffix)
        if suffix in EMBEDDING_FACTORS:
            kinds[module] = "embedding"
        elif module.endswith(OUT_PROJ):
            module = module.replace(OUT_PROJ, ".out_proj")
            kinds[module] = "out_proj"
        elif tensor.ndim > 2:
            kinds[module] = "conv"
        factors.setdefault(module, {})[ALL_FACTORS[suffix]] = tensor
    return factors, kinds, rest


def _offset_problems(
    pairs: Mapping[str, tuple[Mapping[str, Tensor], str]], lora_bias: bool
) -> Iterator[str]:
    """Biases of B that are missing, unexpected, or of another length than its rows."""
    for name, (tensors, kind) in pairs.items():
        offset = tensors.get(OFFSET)
        if kind != "linear" and (lora_bias or offset is not None):
            yield f"{name}: lora_bias is supported for linear layers, and this is {kind}"
        elif (offset is not None) != lora_bias:
            wrong = "is missing" if lora_bias else "is unexpected"
            yield f"{name}: lora_B.bias {wrong}; the config says lora_bias={lora_bias}"
        elif offset is not None and offset.shape != tensors["lora_B"].shape[:1]:
            rows = tuple(tensors["lora_B"].shape[:1])
            yield f"{name}: lora_B.bias has the shape {tuple(offset.shape)}, and lora_B {rows} rows"


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
