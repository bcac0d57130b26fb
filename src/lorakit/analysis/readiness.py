"""Which adapters can be analysed: by what is known of them, before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import ConfigError, suggest
from lorakit.injection.selection.naming import names_by_suffix
from lorakit.layer_groups import group_layers
from lorakit.variants import VARIANTS, ModuleAdapter


def chosen(
    bundle: AdapterBundle, origin: str, modules: Sequence[str] | None = None
) -> dict[str, ModuleAdapter]:
    """The adapters of the modules whose names end in one of `modules`; None means all.

    Raises ConfigError for a file without adapters, and for names that no adapted module has.
    """
    if not bundle.adapters:
        kinds = ", ".join(variant.title for variant in VARIANTS.values())
        raise ConfigError(
            f"{origin} was trained with the method {bundle.method}, whose file has no low-rank "
            f"updates to analyse; those of {kinds} are."
        )
    if modules is None:
        return dict(bundle.adapters)
    found = names_by_suffix(bundle.adapters, modules)
    if missing := [suffix for suffix, names in found.items() if not names]:
        ends = dict.fromkeys(name.rpartition(".")[2] for name in bundle.adapters)
        raise ConfigError(
            f"{origin} adapts no module of these names; it adapts {', '.join(ends)}:",
            [f"{suffix}{suggest(suffix, [*ends, *bundle.adapters])}" for suffix in missing],
        )
    kept = {name for names in found.values() for name in names}
    return {name: adapter for name, adapter in bundle.adapters.items() if name in kept}


def require_readable(adapters: Mapping[str, ModuleAdapter], weights: Collection[str]) -> None:
    """Raise ConfigError where there is no adapter, or one whose update cannot be computed."""
    if not adapters:
        raise ConfigError("There is no adapter to analyse.")
    problems = [
        (name, problem)
        for name, adapter in adapters.items()
        if (problem := _problem(adapter, name in weights))
    ]
    if problems:
        raise ConfigError(
            "Not every update can be computed without the base model; pass it (--base MODEL, "
            "weights=...), or choose other modules (--modules NAME,NAME):",
            group_layers(problems),
        )


def _problem(adapter: ModuleAdapter, has_weight: bool) -> str | None:
    if adapter.site is None:
        return "is a layer of a type that the file does not say"
    if adapter.variant.needs_weight and not has_weight:
        return f"has an update that depends on the base's weight: {adapter.variant.title}"
    return None
