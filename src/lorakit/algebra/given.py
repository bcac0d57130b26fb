"""What callers give: adapters as values, all of them finite, with weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.bundle import not_finite
from lorakit.config import is_number
from lorakit.errors import ConfigError, MismatchError

_HEADLINE = "These adapters cannot be combined:"


def require_terms(terms: object) -> list[tuple[AdapterBundle, float]]:
    """The (adapter, weight) pairs of a sum.

    Raises ConfigError that lists what is no pair, no adapter or no weight; MismatchError for NaN or
    infinite values in an adapter whose weight is not 0.
    """
    given: list[Any] = [terms]
    if isinstance(terms, Iterable) and not isinstance(terms, str):
        given = list(terms)
    problems = [text for n, term in enumerate(given, 1) for text in _term_problems(n, term)]
    if not given:
        problems.append("there are none; pass at least one (adapter, weight)")
    elif not problems and not any(weight for _, weight in given):
        problems.append("every weight is 0, so nothing would be left of them")
    if problems:
        raise ConfigError(_HEADLINE, problems)
    if broken := [
        f"adapter {n}: {text}"
        for n, (bundle, weight) in enumerate(given, 1)
        if weight
        for text in not_finite(bundle)
    ]:
        raise MismatchError(_HEADLINE, broken)
    return given


def require_adapter(bundle: object) -> None:
    """Raise ConfigError for what is no adapter, MismatchError for NaN or infinite values in it."""
    if not isinstance(bundle, AdapterBundle):
        raise ConfigError(f"This cannot be resized: it {_no_adapter(bundle)}.")
    if broken := not_finite(bundle):
        raise MismatchError("This adapter cannot be resized:", broken)


def _term_problems(n: int, term: object) -> Iterator[str]:
    if not isinstance(term, tuple | list) or len(term) != 2:
        yield f"adapter {n} is a {type(term).__name__}; pass a pair (adapter, weight)"
        return
    bundle, weight = term
    if not isinstance(bundle, AdapterBundle):
        yield f"adapter {n} {_no_adapter(bundle)}"
    if not is_number(weight):
        yield f"the weight of adapter {n} is {weight!r}; it must be a finite number"


def _no_adapter(value: object) -> str:
    return f"is a {type(value).__name__}; pass what lorakit.checkpoint.read(...) gives for its path"
