"""What a set is asked by name: known names, new ones, and sums of several."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set

from lorakit.adapters.member import Member
from lorakit.config import is_number
from lorakit.errors import SUGGESTIONS, StateError, suggest
from lorakit.layer_groups import group_layers
from lorakit.variants import VARIANTS


def require_new(name: object, known: Collection[str]) -> None:
    """Raise StateError for a name that is taken, or is none."""
    if not isinstance(name, str) or not name:
        raise StateError(f"An adapter's name is a text that is not empty, not {name!r}.")
    if name in known:
        raise StateError(
            f"An adapter called {name!r} is already in this set; unload({name!r}) it first, or "
            "choose another name."
        )


def require_known(names: Iterable[object], known: Collection[str]) -> None:
    """Raise StateError that lists every name that is none of these."""
    unknown = {repr(n): n for n in names if not (isinstance(n, str) and n in known)}
    if not unknown:
        return
    there = ", ".join(map(repr, known)) if known else "none"
    problems = [
        f"{name!r}{suggest(str(name), known) if at < SUGGESTIONS else ''}"
        for at, name in enumerate(unknown.values())
    ]
    raise StateError(f"No adapters of these names are in this set, which has {there}:", problems)


def entries_of(names: Iterable[str | None]) -> tuple[str | None, ...]:
    """What `rows` was given, each once; raises StateError for what has no order, or nothing."""
    in_order = isinstance(names, Iterable) and not isinstance(names, str | bytes | Mapping | Set)
    entries = tuple(names) if in_order else ()
    if not entries:
        what = "one text" if isinstance(names, str) else "no list"
        found = "no adapters" if in_order or not names else f"{names!r}, which is {what}"
        raise StateError(
            f"rows() names {found}; pass a list with a name, or None, for each row of a batch."
        )
    return entries


def weights_of(name: str | Mapping[str, float]) -> dict[str, float]:
    """What `activate` was given, as weights by name; raises StateError for what is neither."""
    if isinstance(name, Mapping) and name:
        return dict(name)
    if isinstance(name, str):
        return {name: 1.0}
    raise StateError(
        f"activate() takes a name, or weights by name, not {name!r}; deactivate() chooses the base."
    )


def require_apart(names: Iterable[str], members: Mapping[str, Member]) -> None:
    """Raise StateError that lists the modules in which rows cannot have adapters of their own."""
    found = (members.get(name) for name in dict.fromkeys(names))
    problems = dict.fromkeys(problem for member in found if member for problem in member.mixed_up)
    if problems:
        raise StateError(
            "The rows of a batch cannot have adapters of their own in these modules; choose one "
            "adapter for all rows with activate(), or load adapters without these modules:",
            group_layers([*problems]),
        )


def require_summable(weights: Mapping[str, float], members: Mapping[str, Member]) -> None:
    """Raise StateError that lists what has no weighted sum, and weights that are no numbers."""
    problems = [
        f"{name!r} has the weight {weight!r}, which is no finite number"
        for name, weight in weights.items()
        if not is_number(weight)
    ]
    for name in weights:
        member = members[name]
        problems += [
            f"{name!r} has adapters of {VARIANTS[variant].title}, whose update is no product of A "
            "and B"
            for variant in sorted(member.variants)
            if not VARIANTS[variant].is_low_rank
        ]
        if member.brings_own:
            problems.append(f"{name!r} brings heads or biases of its own")
        if member.trains:
            problems.append(f"{name!r} is being trained")
    if problems:
        raise StateError("These adapters cannot be added up:", problems)
