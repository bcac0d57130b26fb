"""Adapters in lorakit's own file: the spec and site of each module.

    "adapters": {"config": {...}, "modules": {name: {"spec": {...}, "site": {"type": ..., ...}}}}

in the header; the tensors are named `<module>.<tensor>`, as in an adapted model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.header import Check, field_problems
from lorakit.config import INITIALISERS, LoraConfig, is_index, is_name, is_number
from lorakit.errors import LorakitError
from lorakit.text import plural
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    ParameterSite,
    RowsSite,
    Site,
    SlicedSite,
)
from lorakit.variants.registry import VARIANTS, variant_problem

_LINEAR = (LinearSite, SlicedSite, InProjSite, OutProjSite, RowsSite)
_CLASSES = (*_LINEAR, EmbeddingSite, ConvSite, ParameterSite)
_SITES: dict[str, type[Site]] = {kind.__name__: kind for kind in _CLASSES}

_FLAG: Check = ("true or false", lambda value: isinstance(value, bool))
_SIZE: Check = ("an integer > 0", lambda value: type(value) is int and value > 0)
_SPEC: dict[str, Check] = {
    "r": _SIZE,
    "lora_alpha": ("a number > 0", lambda value: is_number(value) and value > 0),
    "lora_dropout": ("in [0, 1)", lambda value: is_number(value) and 0 <= value < 1),
    "merge_weights": _FLAG,
    "use_rslora": _FLAG,
    "init_lora_weights": ("true, false or gaussian", lambda value: value in INITIALISERS),
    "variant": ("a name", is_name),
}
_SITE: dict[str, Check] = {
    "in_features": _SIZE,
    "out_features": _SIZE,
    "transposed": _FLAG,
    "experts": ("an integer >= 0", is_index),
    "rows": ("a list of row numbers in ascending order", lambda value: _is_ascending(value)),
    "slices": ("a list of (height, true or false)", lambda value: _is_slices(value)),
    "shape": (
        "a list of at least three sizes",
        lambda value: isinstance(value, list) and len(value) > 2 and all(map(_SIZE[1], value)),
    ),
    "groups": _SIZE,
    "square": _FLAG,
}


def adapters_table(bundle: AdapterBundle) -> dict[str, Any] | None:
    """The header's part about adapters; None where a method has none."""
    if bundle.method != "lora" and not bundle.adapters:
        return None
    modules = {
        name: {"spec": asdict(adapter.spec), "site": _site_table(adapter.site)}
        for name, adapter in bundle.adapters.items()
    }
    return {"config": asdict(bundle.config), "modules": modules}


def unsupported_adapters(bundle: AdapterBundle) -> list[str]:
    """What of a bundle's adapters the header cannot store."""
    return [
        f"{name}: the type of its layer is unknown; load the adapter onto its model and save it "
        "from there"
        for name, adapter in bundle.adapters.items()
        if type(adapter.site) not in _SITES.values()
    ]


def read_adapters(
    table: Mapping[str, Any], tensors: Mapping[str, Tensor], problems: list[str]
) -> tuple[LoraConfig, dict[str, ModuleAdapter], dict[str, Tensor]]:
    """The config, the adapters and all other tensors; errors are added to `problems`."""
    config, adapters, rest = LoraConfig(), {}, dict(tensors)
    try:
        config = LoraConfig(**table["config"])
        modules = dict(table["modules"])
    except (LorakitError, TypeError, KeyError, ValueError) as error:
        problems.append(f"the header field adapters is invalid ({error!r})")
        return config, {}, rest
    unknown: dict[str, list[str]] = {}
    for name, entry in modules.items():
        if wrong := _entry_problems(entry):
            problems += [f"{name}: {problem}" for problem in wrong]
            continue
        spec, site = AdapterSpec(**entry["spec"]), _site(entry["site"])
        if problem := variant_problem(spec.variant):
            unknown.setdefault(problem, []).append(name)
            continue
        expected = VARIANTS[spec.variant].shapes(site, spec.r)
        found = {leaf: rest.pop(key) for leaf in expected if (key := f"{name}.{leaf}") in rest}
        adapters[name] = adapter = ModuleAdapter(spec, found, site)
        if adapter.shapes != expected:
            problems.append(f"{name}: size mismatch: expected {expected}, got {adapter.shapes}")
    if (problem := variant_problem(config.variant)) and problem not in unknown:
        problems.append(problem)
    problems += [
        f"{problem}; register the variant before loading the file ({plural(len(names), 'module')}, "
        f"the first is {names[0]})"
        for problem, names in unknown.items()
    ]
    return config, adapters, rest


def _entry_problems(entry: Any) -> list[str]:
    """What is wrong with what the header says of one module."""
    parts = entry if isinstance(entry, dict) else {}
    spec, site = parts.get("spec"), parts.get("site")
    if not isinstance(spec, dict) or not isinstance(site, dict):
        return ["its entry in the header has no spec and site"]
    kind = site.get("type")
    if not isinstance(kind, str) or kind not in _SITES:
        return [f"its type is {kind!r}; it must be one of {', '.join(_SITES)}"]
    own = {field.name: _SITE[field.name] for field in fields(_SITES[kind])}  # type: ignore[arg-type]
    return field_problems(spec, _SPEC) + field_problems(site, own, allowed=("type",))


def _is_ascending(value: Any) -> bool:
    listed = isinstance(value, list) and len(value) > 0 and all(map(is_index, value))
    return listed and value == sorted(set(value))


def _is_slices(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, list) and [type(item) for item in part] == [int, bool] and part[0] > 0
        for part in value
    )


def _site_table(site: Site | None) -> dict[str, Any]:
    assert site is not None
    return {"type": type(site).__name__, **asdict(site)}  # type: ignore[call-overload]


def _site(table: Mapping[str, Any]) -> Site:
    values = {name: _as_tuples(value) for name, value in table.items() if name != "type"}
    return _SITES[table["type"]](**values)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
