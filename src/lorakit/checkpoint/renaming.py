"""An adapter under other names of modules: as the user says, or as a model calls them now.

`rename` maps regular expressions to replacements, and the first that is found in a name replaces
what it finds there, as `re.sub` does. What an expression may be is bounded, and with it the time
that `re` takes (`config.bounded`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.settings import selecting
from lorakit.config.bounded import bounded_problem
from lorakit.errors import ConfigError, FormatError
from lorakit.text import plural


def rename_modules(bundle: AdapterBundle, names: Mapping[str, str]) -> AdapterBundle:
    """The bundle with these names (old -> new) of its modules; others stay.

    Raises FormatError if two modules or tensors would get the same name.
    """
    new = {name: names.get(name, name) for name in bundle.adapters}
    trained = {}
    for name in bundle.trained:
        owner, dot, leaf = name.rpartition(".")
        trained[name] = f"{names.get(owner, owner)}{dot}{leaf}"
    twice = [*_twice(new), *_twice(trained)]
    if twice:
        raise FormatError("Renaming gives two modules one name:", twice)
    adapters = {new[name]: adapter for name, adapter in bundle.adapters.items()}
    config = selecting(bundle.config.replace(slices={}), adapters)
    before = bundle.renamed
    changed = {n: before.get(old, old) for old, n in new.items() if n != old or old in before}
    return replace(
        bundle,
        config=config,
        adapters=adapters,
        trained={trained[name]: tensor for name, tensor in bundle.trained.items()},
        renamed=changed,
    )


def renamed_by(bundle: AdapterBundle, rename: Mapping[str, str]) -> AdapterBundle:
    """The bundle with the names that `rename` (regular expression -> replacement) gives.

    Raises ConfigError that lists what is wrong with it, also if an expression is in no name, and
    FormatError if two modules would get the same name.
    """
    owners = (name.rpartition(".")[0] for name in bundle.trained)
    modules = dict.fromkeys([*bundle.adapters, *filter(None, owners)])
    problems, expressions = [], []
    for pattern, text in rename.items():
        problem = bounded_problem(pattern, list(modules))
        if problem is None and (problem := _replacement_problem(pattern, text)) is None:
            expressions.append((re.compile(pattern), text))
            if not any(expressions[-1][0].search(name) for name in modules):
                problem = f"{pattern!r} is in no name of the adapter"
        problems += [] if problem is None else [problem]
    if problems:
        raise ConfigError("The renaming cannot be done:", problems)
    names = {}
    for name in modules:
        for expression, text in expressions:
            if expression.search(name):
                names[name] = expression.sub(text, name)
                break
    if empty := [name for name, new in names.items() if not new]:
        raise ConfigError("Renaming leaves nothing of these names:", empty)
    return rename_modules(bundle, {name: new for name, new in names.items() if new != name})


def renaming_text(renamed: Mapping[str, str]) -> str:
    """What was renamed, in a line of a report; `renamed` is that of a bundle, and not empty."""
    here, there = next(iter(renamed.items()))
    return f"renamed: {plural(len(renamed), 'module')}, such as {there} to {here}"


def _replacement_problem(pattern: str, text: str) -> str | None:
    """What is wrong with a replacement: a group that the expression does not have."""
    try:
        re.compile(pattern).sub(text, "")
    except (re.error, IndexError) as error:
        return f"{text!r} is no replacement for {pattern!r}: {error}"
    return None


def _twice(names: Mapping[str, str]) -> list[str]:
    """Which names become the same."""
    by_new: dict[str, list[str]] = {}
    for old, new in names.items():
        by_new.setdefault(new, []).append(old)
    return [f"{' and '.join(old)} as {new}" for new, old in by_new.items() if len(old) > 1]
