"""The methods of a sweep: what each has from another one that it is like, and from the sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lorakit.errors import suggest
from lorakit.experiments.entry import LIKE, LISTS, Entry, below, named, read_entry, read_settings
from lorakit.experiments.sweep import Settings, Sweep, applies
from lorakit.methods.registry import METHODS


def method_entries(sweep: Sweep, problems: list[str]) -> Iterator[Entry]:
    values = named("methods", sweep.methods, problems)
    shared = {kind: _lists(kind, getattr(sweep, kind), problems) for kind in LISTS}
    entries = {name: _method(name, value, problems) for name, value in values.items()}
    for entry in entries.values():
        found = _with_other(entry, entries, problems)
        if found is None:
            continue
        method = found.settings.get("method", found.name)
        if not isinstance(method, str) or method not in METHODS:
            problems.append(
                f"methods.{entry.name}: there is no method {method!r}"
                f"{suggest(str(method), METHODS)}; set method in it to one of {', '.join(METHODS)}"
            )
            continue
        found = _with_shared(found, method, shared)
        yield found
        for name in found.own["choose"].keys() & found.own["grid"].keys():
            problems.append(f"methods.{entry.name}: {name} is both in choose and in grid")


def _method(name: str, value: Mapping[str, Any], problems: list[str]) -> Entry:
    """The entry of a method with its own lists, and the method that it is called after."""
    entry, place = read_entry("methods", name, value, problems), f"methods.{name}"
    lists = {kind: _lists(f"{place}.{kind}", value.get(kind), problems) for kind in LISTS}
    places = {
        name: at for kind in LISTS for name, at in below(f"{place}.{kind}", lists[kind]).items()
    }
    called = {"method": name} if name in METHODS else {}
    return Entry(
        name, {**called, **entry.settings}, {**entry.own, **lists}, {**entry.places, **places}
    )


def _with_other(
    entry: Entry, entries: Mapping[str, Entry], problems: list[str], above: tuple[str, ...] = ()
) -> Entry | None:
    """The entry with all of the one that it is `like`, but for what it says itself; None without.

    `above` are the names of those that are like this one.
    """
    name, names = entry.own.get(LIKE), (*above, entry.name)
    if name is None:
        return entry
    if name not in entries or name in names:
        wrong = f"{suggest(name, entries)}; it must be another of the methods"
        if name in entries:
            wrong = f", and so each is like the other: {', '.join(sorted(names))}"
        problem = f"methods.{entry.name}.like is {name!r}{wrong}"
        problems += [problem] if problem not in problems else []
        return None
    other = _with_other(entries[name], entries, problems, names)
    return None if other is None else _joined(other, entry)


def _joined(other: Entry, entry: Entry) -> Entry:
    """What both say, the entry above the other, whose method's own section means nothing here."""
    method = str({**other.settings, **entry.settings}.get("method"))
    settings = {name: v for name, v in other.settings.items() if applies(name, method)}
    lists = {
        kind: {n: v for n, v in _unless_set(other.own[kind], entry).items() if applies(n, method)}
        | entry.own[kind]
        for kind in LISTS
    }
    return Entry(
        entry.name,
        {**settings, **entry.settings},
        {**other.own, **entry.own, **lists},
        {**other.places, **entry.places},
    )


def _with_shared(entry: Entry, method: str, shared: Mapping[str, Settings]) -> Entry:
    """The entry with the sweep's lists of what means anything to its method."""
    own, places = dict(entry.own), dict(entry.places)
    for kind, lists in shared.items():
        fitting = {n: v for n, v in _unless_set(lists, entry).items() if applies(n, method)}
        places = {**below(kind, fitting), **places}
        own[kind] = {**fitting, **entry.own[kind]}
    return Entry(entry.name, {**entry.settings, "method": method}, own, places)


def _unless_set(lists: Settings, entry: Entry) -> dict[str, Any]:
    """The lists without those of what the entry itself sets."""
    return {name: values for name, values in lists.items() if name not in entry.settings}


def _lists(place: str, value: Any, problems: list[str]) -> dict[str, list[Any]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.append(f"{place} is {value!r}; it must be a mapping of settings to lists")
        return {}
    found = {}
    for name, values in read_settings(place, value, problems).items():
        if not isinstance(values, list | tuple) or not values:
            problems.append(f"{place}.{name} is {values!r}; it must be a list of values")
        elif any(value in values[:count] for count, value in enumerate(values)):
            problems.append(f"{place}.{name} is {values!r}, which has a value twice")
        else:
            found[name] = list(values)
    return found
