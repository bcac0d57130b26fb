"""An adapter whose modules have other names in this model than in the one it was saved from.

transformers 5 has renamed modules, and has tables of that. Else they stand deeper or higher here:

    unet.down_blocks.0...             down_blocks.0...                     a part of a pipeline
    model.layers.0...                 layers.0...                          the bare model
    model.layers.0...                 model.language_model.layers.0...     in a wrapper

Names that the model has stay. The beginnings of all others are taken away or added to, and where
this gives exactly one place for all of them, that is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set

from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.renaming import rename_modules
from lorakit.errors import MismatchError
from lorakit.private.transformers_names import present_names

Names = dict[str, str]


def in_present_names(
    model: nn.Module, bundle: AdapterBundle, modules: Collection[str]
) -> AdapterBundle:
    """The bundle with the names of this model's modules.

    Raises MismatchError if they fit in several places.
    """
    known = set(modules)
    missing = _missing(bundle, known)
    if not missing:
        return bundle
    present = present_names(model, missing)
    moved = {old: new for old, new in present.items() if new in known}
    if moved:
        bundle = rename_modules(bundle, moved)
    return _without_prefix_difference(bundle, known)


def _missing(bundle: AdapterBundle, known: Set[str]) -> list[str]:
    """The bundle's modules that the model does not have."""
    owners = (name.rpartition(".")[0] for name in bundle.trained)
    names = dict.fromkeys([*bundle.adapters, *filter(None, owners)])
    return [name for name in names if name not in known]


def _without_prefix_difference(bundle: AdapterBundle, known: Set[str]) -> AdapterBundle:
    """The bundle with other beginnings of names, if that is what differs."""
    missing = _missing(bundle, known)
    if not missing:
        return bundle
    found: dict[tuple[str, ...], Names] = {}
    for renamed in _ways(missing, known - bundle.adapters.keys()):
        found.setdefault(tuple(renamed.values()), renamed)
    if len(found) > 1:
        raise MismatchError(
            "The adapter's modules are in this model under other names, in several places; say "
            "which with rename={...} (--rename):",
            [f"{names[missing[0]]} for {missing[0]}" for names in found.values()],
        )
    return rename_modules(bundle, next(iter(found.values()))) if found else bundle


def _ways(missing: list[str], known: Set[str]) -> Iterator[Names]:
    """Old name -> new one, for each change of the beginning with which all are known."""
    first = missing[0]
    parts = first.split(".")
    for count in range(len(parts)):
        old = ".".join(parts[:count])
        if not all(name.startswith(f"{old}." if old else "") for name in missing):
            return
        rest = first.removeprefix(f"{old}.") if old else first
        for module in known:
            if module == rest:
                new = ""
            elif module.endswith(f".{rest}"):
                new = module.removesuffix(f".{rest}")
            else:
                continue
            if _is_within(old, new) or _is_within(new, old):
                renamed = {name: _moved(name, old, new) for name in missing}
                if all(name in known for name in renamed.values()):
                    yield renamed


def _moved(name: str, old: str, new: str) -> str:
    rest = name.removeprefix(f"{old}.") if old else name
    return f"{new}.{rest}" if new else rest


def _is_within(short: str, long: str) -> bool:
    """Whether the parts of one name are all in the other, in their order."""
    rest = iter(long.split(".") if long else ())
    return all(part in rest for part in (short.split(".") if short else ()))
