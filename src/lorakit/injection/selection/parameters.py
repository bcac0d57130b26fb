"""`target_parameters`: parameters that are adapted by themselves, such as a mixture's experts."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn

from lorakit.errors import SUGGESTIONS, suggest
from lorakit.injection.selection.naming import ending_in_any, names_by_suffix
from lorakit.layer_groups import without_indices
from lorakit.layers.parameter import ModuleParameter


def parameter_targets(
    model: nn.Module, endings: Collection[str]
) -> tuple[dict[str, ModuleParameter], list[str]]:
    """The parameters whose full names end in these names, as layers, and endings of none."""
    names = [
        f"{name}.{leaf}"
        for name, module in model.named_modules()
        for leaf, parameter in module._parameters.items()
        if name and parameter is not None
    ]
    hits = names_by_suffix(names, endings)
    known = sorted({without_indices(name) for name in names})
    problems = [
        f"target_parameters: {ending!r} matches no parameter"
        f"{suggest(ending, known) if n < SUGGESTIONS else ''}"
        for n, ending in enumerate(ending for ending in hits if not hits[ending])
    ]
    return as_layers(model, ending_in_any(names, hits)), problems


def as_layers(model: nn.Module, names: Iterable[str]) -> dict[str, ModuleParameter]:
    """Those of the names that are parameters of the model, as layers: adapted ones, or new ones."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, ModuleParameter] = {}
    for name in names:
        owner, _, leaf = name.rpartition(".")
        there = modules.get(name)
        if isinstance(there, ModuleParameter):
            found[name] = there
        elif owner in modules and modules[owner]._parameters.get(leaf) is not None:
            found[name] = ModuleParameter(modules[owner], leaf)
    return found


def twice(module: nn.Module, adapted: Collection[int]) -> str | None:
    """Why a parameter cannot be adapted beside its module; `adapted` are identities of modules."""
    if not isinstance(module, ModuleParameter) or id(module.owner) not in adapted:
        return None
    kind = type(module.owner).__name__
    return f"is a parameter of a {kind} in target_modules; leave it out of one of the two"
