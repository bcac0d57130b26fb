"""Whether adapters are of one base: by fingerprints of its weights, else by its name; by modules.

Fingerprints can be compared where they are of the same modules and in a dtype that both have. So of
two adapters the weights are the same, or others, or it is unknown; those with the same are a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations

from lorakit.checkpoint import AdapterBundle
from lorakit.injection.selection.naming import same_but_for_prefix
from lorakit.variants import RowsSite

Bundles = Mapping[str, AdapterBundle]
"""By what messages call them."""
_Group = tuple[str, ...]


def base_problems(bundles: Bundles) -> Iterator[str]:
    """Why these are not of one base, each with all that are concerned, in groups."""
    groups = _groups(bundles)

    def are_others(one: _Group, other: _Group) -> bool:
        pairs = ((bundles[here], bundles[there]) for here in one for there in other)
        return any(_same_weights(*pair) is False for pair in pairs)

    def have_other_names(one: _Group, other: _Group) -> bool:
        here, there = (_names(bundles, group) for group in (one, other))
        return bool(here and there) and not here.keys() & there and not are_others(one, other)

    if others := _in_pairs(groups, are_others):
        each = (f"{listed(g)} ({', '.join(_names(bundles, g)) or 'unnamed'})" for g in others)
        yield f"they were trained on different base weights: {'; '.join(each)}"
    if unsure := _in_pairs(groups, have_other_names):
        names = _names(bundles, chain(*unsure))
        each = (f"{name} ({listed(labels)})" for name, labels in names.items())
        yield (
            f"their bases have different names: {', '.join(each)}; if they are the same, write one "
            "name into all configs"
        )
    yield from _prefix_problems(bundles)


def fingerprinted(bundle: AdapterBundle) -> set[str]:
    """The modules whose weights a fingerprint is of."""
    return {name for name, x in bundle.adapters.items() if not isinstance(x.site, RowsSite)}


def listed(labels: Iterable[str]) -> str:
    """Several of them in a sentence."""
    return " and ".join(labels)


def _groups(bundles: Bundles) -> list[_Group]:
    """Those that have the same weights, together."""
    groups: list[_Group] = []
    for label, bundle in bundles.items():
        same = [g for g in groups if any(_same_weights(bundles[one], bundle) for one in g)]
        groups = [*(g for g in groups if g not in same), (*chain(*same), label)]
    order = list(bundles)
    return sorted(groups, key=lambda group: order.index(group[0]))


def _in_pairs(groups: Sequence[_Group], differ: Callable[[_Group, _Group], bool]) -> list[_Group]:
    """The groups that differ from another one."""
    found = {group for pair in combinations(groups, 2) if differ(*pair) for group in pair}
    return [group for group in groups if group in found]


def _names(bundles: Bundles, labels: Iterable[str]) -> dict[str, list[str]]:
    """What these call their base, and which of them do."""
    found: dict[str, list[str]] = {}
    for label in labels:
        if name := bundles[label].base_model:
            found.setdefault(name, []).append(label)
    return found


def _same_weights(one: AdapterBundle, other: AdapterBundle) -> bool | None:
    """Whether the fingerprints are of the same weights; None if they cannot be compared."""
    here, there = one.fingerprint or {}, other.fingerprint or {}
    common = here.keys() & there.keys()
    if not common or fingerprinted(one) != fingerprinted(other):
        return None
    return any(here[dtype] == there[dtype] for dtype in common)


def _prefix_problems(bundles: Bundles) -> Iterator[str]:
    """Adapters that have no module in common, but for a prefix that the names of one have."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, bundle in bundles.items():
        groups.setdefault(tuple(sorted(bundle.adapters)), []).append(label)
    for (here, one), (there, other) in combinations(groups.items(), 2):
        found = same_but_for_prefix(here, there) if not set(here) & set(there) else None
        if found is not None:
            verb = "has" if len(one) == 1 else "have"
            yield (
                f"{listed(one)} {verb} {found[0]}, and {listed(other)} {found[1]}, so their models "
                "name the same modules otherwise; make them alike with lorakit convert --rename"
            )
