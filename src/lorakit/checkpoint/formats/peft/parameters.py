"""Names of adapted parameters in PEFT's files, there and back.

PEFT puts one wrapper for each parameter around their module, the last parameter's outermost, and
its files name the wrappers alone:

    in the file, after its prefix     in the model
    mlp.experts.base_layer            mlp.experts.gate_up_proj
    mlp.experts                       mlp.experts.down_proj

The config's `target_parameters` says which parameters these are, and the module their order.
Without the module, that is known of the names that experts have in transformers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

from lorakit.checkpoint.formats.peft.endings import Endings
from lorakit.config import ALL_LINEAR, LoraConfig
from lorakit.config.expressions import parse
from lorakit.config.places import Text
from lorakit.variants import ModuleAdapter
from lorakit.variants.parameter_site import parameters_of

LEVEL = ".base_layer"
_ORDER = (
    "gate_proj", "gate_up_proj", "gate_up_proj_bias", "up_proj", "down_proj", "down_proj_bias",
)  # fmt: skip
"""The order in which every module of transformers has those of them that it has."""


def file_names(adapters: Mapping[str, ModuleAdapter]) -> dict[str, str]:
    """What the files call each adapted parameter's wrapper, and each owner's innermost wrapper."""
    names: dict[str, str] = {}
    for owner, leaves in _by_owner(parameters_of(adapters)).items():
        outermost = (in_order(leaves) or leaves)[::-1]
        names |= {f"{owner}.{leaf}": owner + LEVEL * at for at, leaf in enumerate(outermost)}
        names[owner] = owner + LEVEL * (len(leaves) - 1)
    return names


def unordered(adapters: Mapping[str, ModuleAdapter]) -> list[str]:
    """Why PEFT could not tell the parameters of a module apart, for each where it could not."""
    return [
        _is_unknown(owner, leaves)
        for owner, leaves in _by_owner(parameters_of(adapters)).items()
        if in_order(leaves) is None
    ]


def parameter_names(
    wrappers: Iterable[str], config: LoraConfig
) -> tuple[dict[str, str], list[str]]:
    """The parameter that each wrapper in a file is for, and what cannot be told."""
    if not config.target_parameters:
        return {}, []
    levels: dict[str, list[str]] = {}
    for wrapper in wrappers:
        levels.setdefault(_owner_of(wrapper), []).append(wrapper)
    modules, meant = _targeted(levels, config.target_modules), _Meant(config.target_parameters)
    names: dict[str, str] = {}
    problems = []
    for owner, found in levels.items():
        named, alone = meant.of(owner), meant.alone
        leaves = named if len(named) == len(found) else {**named, **alone}
        order = in_order(leaves)
        if not leaves or (not named and len(found) == 1 and owner in modules):
            continue  # a name without its module's could be one of each module
        if len(leaves) != len(found) or set(found) != _levels(owner, len(found)):
            problems.append(
                f"{owner} has {len(found)} adapters, and target_parameters names "
                f"{len(leaves)} of its parameters ({', '.join(islice(leaves, _NAMED))})"
            )
        elif order is None:
            problems.append(_is_unknown(owner, leaves))
        else:
            outermost = sorted(found, key=len)
            names |= {w: f"{owner}.{leaf}" for w, leaf in zip(outermost, order[::-1], strict=True)}
    if not names and not problems:
        first = list(islice(config.target_parameters, _NAMED))
        problems.append(f"target_parameters={first}, and it has no adapter of one of them")
    return names, problems


_NAMED = 5
"""So many names are in a message."""


class _Meant:
    """The parameters that a config names, by how the names of their modules end."""

    def __init__(self, targets: Iterable[str]) -> None:
        by_end: dict[str, dict[str, None]] = {}
        for end, _, leaf in (target.rpartition(".") for target in targets):
            by_end.setdefault(end, {})[leaf] = None
        self.alone = by_end.pop("", {})
        """Those that are named without their module."""
        self._by_end, self._endings = by_end, Endings(by_end)

    def of(self, owner: str) -> dict[str, None]:
        """Those of the module of this name."""
        found = [self._by_end[end] for end in _ends_of(owner, self._endings)]
        return found[0] if len(found) == 1 else {leaf: None for some in found for leaf in some}


def _levels(owner: str, count: int) -> set[str]:
    return {owner + LEVEL * at for at in range(count)}


def _targeted(owners: Collection[str], targets: str | Sequence[str] | None) -> Collection[str]:
    """Those of the modules that `target_modules` names, or may name."""
    if targets is None or targets == ALL_LINEAR:
        return owners
    if isinstance(targets, str):
        return set(Text(list(owners)).fitting(parse(targets)))
    endings = Endings(targets)
    return {owner for owner in owners if _ends_of(owner, endings)}


def _ends_of(owner: str, endings: Endings) -> list[str]:
    """The listed names that this one ends in, after a dot or as a whole."""
    return [end for end in endings.of(owner) if f".{owner}".endswith(f".{end}")]


def in_order(leaves: Collection[str]) -> list[str] | None:
    """The names in the order in which their module has them; None if it is not known."""
    if len(leaves) == 1:
        return list(leaves)
    return sorted(leaves, key=_ORDER.index) if set(leaves) <= set(_ORDER) else None


def _is_unknown(owner: str, leaves: Iterable[str]) -> str:
    return (
        f"{owner} has adapters of {' and '.join(leaves)}, which PEFT's files tell apart only by "
        "the order in which their module has them, and that is not known of these names"
    )


def _by_owner(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        owner, _, leaf = name.rpartition(".")
        found.setdefault(owner, []).append(leaf)
    return found


def _owner_of(wrapper: str) -> str:
    while wrapper.endswith(LEVEL):
        wrapper = wrapper.removesuffix(LEVEL)
    return wrapper
