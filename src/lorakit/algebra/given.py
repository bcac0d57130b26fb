"""What callers give: adapters as values, all of them finite, with weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.bundle import not_finite
from lorakit.config import is_number
from lorakit.errors import ConfigError, MismatchError
from lorakit.text import plural, repeated

HEADLINE = "These adapters cannot be combined:"


def require_terms(
    terms: object, names: Sequence[str] | None = None
) -> list[tuple[str, AdapterBundle, float]]:
    """(label, adapter, weight) of each term of a sum; messages have the label.

    Raises ConfigError that lists what is no pair, no adapter or no weight; MismatchError for NaN or
    infinite values in an adapter whose weight is not 0.
    """
    given: list[Any] = [terms]
    if isinstance(terms, Iterable) and not isinstance(terms, str):
        given = list(terms)
    labels = _labels(names, len(given))
    pairs = list(zip(labels, given, strict=True))
    problems = [text for label, term in pairs for text in _term_problems(label, term)]
    if not given:
        problems.append("there are none; pass at least one (adapter, weight)")
    elif not problems and not any(weight for _, weight in given):
        problems.append("every weight is 0, so nothing would be left of them")
    if problems:
        raise ConfigError(HEADLINE, problems)
    if broken := [
        f"{label}: {text}"
        for label, (bundle, weight) in pairs
        if weight
        for text in not_finite(bundle)
    ]:
        raise MismatchError(HEADLINE, broken)
    return [(label, bundle, float(weight)) for label, (bundle, weight) in pairs]


def _labels(names: Sequence[str] | None, count: int) -> list[str]:
    """What messages call the adapters: each by its own name, or by its place."""
    places = [f"adapter {n}" for n in range(1, count + 1)]
    if names is None:
        return places
    if len(names) != count:
        raise ConfigError(f"names has {len(names)} of them for {plural(count, 'adapter')}.")
    several = repeated(names)
    return [
        f"{name} ({place})" if name in several else name
        for name, place in zip(names, places, strict=True)
    ]


def require_adapter(bundle: object) -> None:
    """Raise ConfigError for what is no adapter, MismatchError for NaN or infinite values in it."""
    if not isinstance(bundle, AdapterBundle):
        raise ConfigError(f"This cannot be resized: it {_no_adapter(bundle)}.")
    if broken := not_finite(bundle):
        raise MismatchError("This adapter cannot be resized:", broken)


def _term_problems(label: str, term: object) -> Iterator[str]:
    if not isinstance(term, tuple | list) or len(term) != 2:
        yield f"{label} is a {type(term).__name__}; pass a pair (adapter, weight)"
        return
    bundle, weight = term
    if not isinstance(bundle, AdapterBundle):
        yield f"{label} {_no_adapter(bundle)}"
    if not is_number(weight):
        yield f"the weight of {label} is {weight!r}; it must be a finite number"


def _no_adapter(value: object) -> str:
    return f"is a {type(value).__name__}; pass what lorakit.checkpoint.read(...) gives for its path"
