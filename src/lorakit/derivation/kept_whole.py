"""What two checkpoints differ in beside low-rank updates, as an adapter can save it: whole."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from lorakit.algebra.differences import CheckpointPair
from lorakit.config import is_bias
from lorakit.injection.selection.naming import within, within_any


@dataclass(frozen=True)
class KeptWhole:
    """Tensors that stand in place of the base's."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    modules: Sequence[str] = ()
    """Those that `modules_to_save` names."""
    biases: Sequence[str] = ()
    """Those outside of these modules."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What cannot be kept, and why."""

    @property
    def bias_owners(self) -> set[str]:
        """The modules of these biases."""
        return {name.rpartition(".")[0] for name in self.biases}


def keep_whole(
    pair: CheckpointPair, rest: Mapping[str, str], adaptable: Iterable[str]
) -> KeptWhole:
    """The tensors `rest` of the tuned model, and how they differ: biases alone, others with theirs.

    A bias stands alone where the rest of its module is the base's or has an adapter; anything else
    is saved with its module.
    """
    alone = [name for name in rest if _is_lone_bias(name, rest)]
    owners = {name: name.rpartition(".")[0] for name in rest if name not in alone}
    problems = {
        name: f"{rest[name]}, and cannot be saved whole"
        for name, owner in owners.items()
        if not owner or name not in pair.keys or any(within(module, owner) for module in adaptable)
    }
    modules = _outermost(owners.values())
    biases = [name for name in alone if not within_any(name, modules)]
    names = [n for n, key in pair.keys.items() if key.tuned and within_any(n, modules)]
    tensors = {} if problems else {name: pair.of_tuned(name) for name in (*names, *biases)}
    return KeptWhole(tensors, modules, biases, problems)


def _is_lone_bias(name: str, rest: Container[str]) -> bool:
    owner, _, leaf = name.rpartition(".")
    return is_bias(leaf) and f"{owner}.weight" not in rest


def _outermost(modules: Iterable[str]) -> list[str]:
    """The modules that are in none of the others."""
    found = dict.fromkeys(modules)
    return [name for name in found if not within_any(name.rpartition(".")[0], found)]
