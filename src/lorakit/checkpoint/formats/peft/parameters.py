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

from collections.abc import Collection, Iterable, Mapping

from lorakit.config import LoraConfig
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
    meant = [target.rpartition(".") for target in config.target_parameters or ()]
    levels: dict[str, list[str]] = {}
    for wrapper in wrappers if meant else ():
        levels.setdefault(_owner_of(wrapper), []).append(wrapper)
    names: dict[str, str] = {}
    problems = []
    for owner, found in levels.items():
        leaves = list(dict.fromkeys(leaf for end, _, leaf in meant if _ends_in(owner, end)))
        order = in_order(leaves)
        if not leaves:
            continue
        if len(leaves) != len(found):
            problems.append(
                f"{owner} has {len(found)} adapters, and target_parameters names "
                f"{len(leaves)} of its parameters ({', '.join(leaves)})"
            )
        elif order is None:
            problems.append(_is_unknown(owner, leaves))
        else:
            outermost = sorted(found, key=len)
            names |= {w: f"{owner}.{leaf}" for w, leaf in zip(outermost, order[::-1], strict=True)}
    if meant and not names and not problems:
        problems.append(
            f"target_parameters={list(config.target_parameters or ())}, and it has no adapter of "
            "one of them"
        )
    return names, problems


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


def _ends_in(owner: str, end: str) -> bool:
    """Whether a module's name ends in what a target has before the parameter's name."""
    return not end or owner == end or owner.endswith(f".{end}")
