"""Adapters in lorakit's own file: the spec and site of each module.

    "adapters": {"config": {...}, "modules": {name: {"spec": {...}, "site": {"type": ..., ...}}}}

in the header; the tensors are named `<module>.<tensor>`, as in an adapted model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.errors import LorakitError
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    Site,
    SlicedSite,
)
from lorakit.variants.registry import VARIANTS, variant_problem

_SITES: dict[str, type[Site]] = {
    kind.__name__: kind
    for kind in (LinearSite, SlicedSite, InProjSite, OutProjSite, EmbeddingSite, ConvSite)
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
    for name, entry in modules.items():
        try:
            spec, site = AdapterSpec(**entry["spec"]), _site(entry["site"])
        except (LorakitError, TypeError, KeyError, ValueError) as error:
            problems.append(f"{name}: its entry in the header is invalid ({error!r})")
            continue
        if problem := variant_problem(spec.variant):
            problems.append(f"{name}: {problem}; register the variant before loading the file")
            continue
        expected = VARIANTS[spec.variant].shapes(site, spec.r)
        found = {leaf: rest.pop(key) for leaf in expected if (key := f"{name}.{leaf}") in rest}
        adapters[name] = adapter = ModuleAdapter(spec, found, site)
        if adapter.shapes != expected:
            problems.append(f"{name}: size mismatch: expected {expected}, got {adapter.shapes}")
    return config, adapters, rest


def _site_table(site: Site | None) -> dict[str, Any]:
    assert site is not None
    return {"type": type(site).__name__, **asdict(site)}  # type: ignore[call-overload]


def _site(table: Mapping[str, Any]) -> Site:
    values = {name: _as_tuples(value) for name, value in table.items() if name != "type"}
    return _SITES[table["type"]](**values)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
