"""lorakit's own file, for what PEFT's format cannot store: other methods and adapter variants.

`trained.safetensors` has the trained tensors under their names in the model, and metadata in its
header: the method and its config, the adapters' settings (`native_adapters`), base model,
fingerprint, task and dtypes. It is one file, so writing it is atomic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, type_problem
from lorakit.checkpoint.checksum import CHECKSUM
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.formats.native_adapters import (
    adapters_table,
    read_adapters,
    unsupported_adapters,
)
from lorakit.checkpoint.formats.tensor_files import (
    dtype_names,
    for_safetensors,
    load_safetensors,
    peek_safetensors,
    save_safetensors,
)
from lorakit.checkpoint.header import (
    BASE_TYPES,
    VERSION,
    Check,
    header_text,
    parse_table,
    require_version,
    type_problems,
)
from lorakit.errors import FormatError
from lorakit.files import atomic_write
from lorakit.locks import exclusive

TENSORS_NAME = "trained.safetensors"

_TEXT: Check = ("a string", lambda value: isinstance(value, str))
_TYPES: dict[str, Check] = {
    "method": _TEXT,
    "method_config": ("a dict", lambda value: isinstance(value, dict)),
    "adapters": ("a dict", lambda value: isinstance(value, dict)),
    "base_model": _TEXT,
    "task_type": _TEXT,
    "dtypes": ("a list of names", lambda value: isinstance(value, list)),
    **BASE_TYPES,
}
_NEVER_NULL = ("method", "method_config", "dtypes")


class Native(Codec):
    """A directory with `trained.safetensors`, or that file alone."""

    name = "lorakit"
    files = (TENSORS_NAME,)

    def sniff(self, path: Path) -> bool:
        if path.is_dir():
            return (path / TENSORS_NAME).is_file()
        if path.suffix != ".safetensors" or path.name == TENSORS_NAME:
            return path.name == TENSORS_NAME
        return "method" in (parse_table(peek_safetensors(path)[1]) or {})

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        file = path / TENSORS_NAME if path.is_dir() else path
        tensors, metadata = load_safetensors(file)
        header = parse_table(metadata)
        if header is None:
            raise FormatError(
                f"{file} has no lorakit metadata in its safetensors header, so its method and "
                "config are unknown. If a run of an earlier lorakit wrote it, train that run again."
            )
        require_version(header)
        problems = _header_problems(header)
        bundle = AdapterBundle() if problems else _bundle(header, tensors, problems)
        problems = problems or _alpha_problem(bundle, lora_alpha)
        if problems:
            raise FormatError(f"{file} cannot be loaded:", problems)
        return replace(bundle, checksum=metadata.get(CHECKSUM))

    def problems(self, bundle: AdapterBundle) -> list[str]:
        checks = {
            "it contains no tensors": not bundle.tensors,
            f"method_config={bundle.method_config!r} cannot be stored as JSON (str, finite int and "
            "float, bool, None, list, and dict with str keys can)": not _is_json(
                bundle.method_config
            ),
        }
        found = [problem for problem, holds in checks.items() if holds]
        found += [
            f"{name} is on the meta device, so it has no data to save"
            for name, tensor in bundle.tensors.items()
            if tensor.is_meta
        ]
        found += [p for name, t in bundle.tensors.items() if (p := type_problem(name, t))]
        return found + unsupported_adapters(bundle)

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        tensors = for_safetensors(dict(sorted(bundle.tensors.items())))
        file = path / TENSORS_NAME
        with exclusive(path), atomic_write(file) as temporary:
            save_safetensors(tensors, temporary, header_text(_header(bundle)))


def _header(bundle: AdapterBundle) -> dict[str, Any]:
    return {
        "version": VERSION,
        "method": bundle.method,
        "method_config": bundle.method_config,
        "adapters": adapters_table(bundle),
        "base_model": bundle.base_model,
        "base_class": bundle.base_class,
        "task_type": bundle.task_type,
        "fingerprint": dict(bundle.fingerprint) if bundle.fingerprint else None,
        "num_labels": bundle.num_labels,
        "dtypes": dtype_names(bundle.tensors),
    }


def _bundle(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], problems: list[str]
) -> AdapterBundle:
    """The bundle in the file; contradictions are added to `problems`."""
    problems += _contradictions(header, tensors)
    table = header["adapters"] or {"config": {}, "modules": {}}
    config, adapters, trained = read_adapters(table, tensors, problems)
    base_class = header["base_class"]
    return AdapterBundle(
        config,
        adapters,
        method=header["method"],
        method_config=header["method_config"],
        trained=trained,
        base_model=header["base_model"],
        base_class=(base_class[0], base_class[1]) if base_class else None,
        task_type=header["task_type"],
        fingerprint=header["fingerprint"],
        num_labels=header["num_labels"],
        format=Native.name,
    )


def _header_problems(header: Mapping[str, Any]) -> list[str]:
    """Fields that are missing, unknown, null or of the wrong type."""
    names = {"version", *_TYPES}
    return [
        *(f"header field {name} is missing" for name in sorted(names - header.keys())),
        *(
            f"unknown header field {name}={header[name]!r}; upgrade lorakit"
            for name in sorted(header.keys() - names)
        ),
        *(f"header field {n} is null" for n in _NEVER_NULL if n in header and header[n] is None),
        *type_problems(header, _TYPES),
    ]


def _contradictions(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """Contradictions between header and tensors, and tensors of unsupported dtype."""
    problems = [p for name, tensor in tensors.items() if (p := type_problem(name, tensor))]
    if not tensors:
        problems.append("it contains no tensors")
    if header["method"] == "lora" and header["adapters"] is None:
        problems.append("its method is lora, but its header lists no adapters")
    if header["dtypes"] != (found := dtype_names(tensors)):
        problems.append(f"dtype mismatch: the header says {header['dtypes']}, got {found}")
    return problems


def _alpha_problem(bundle: AdapterBundle, lora_alpha: float | None) -> list[str]:
    """A `lora_alpha` that was passed has to be the one in the file."""
    if lora_alpha is None or (bundle.method, bundle.config.lora_alpha) == ("lora", lora_alpha):
        return []
    if bundle.method != "lora":
        return [f"lora_alpha={lora_alpha:g} was passed, but its method is {bundle.method}"]
    said = f"{bundle.config.lora_alpha:g}"
    return [f"lora_alpha={lora_alpha:g} was passed, but the file says lora_alpha={said}"]


def _is_json(value: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False
