"""The public API is `lorakit.__all__`: sorted, importable and documented."""

from __future__ import annotations

import inspect

import pytest

import lorakit

ERRORS = [
    error
    for _, error in inspect.getmembers(lorakit.errors, inspect.isclass)
    if issubclass(error, BaseException)
]


def test_all_is_sorted_and_without_repetition() -> None:
    assert list(lorakit.__all__) == sorted(set(lorakit.__all__))


def test_dir_lists_the_public_names() -> None:
    assert set(lorakit.__all__) <= set(dir(lorakit))


@pytest.mark.parametrize("name", lorakit.__all__)
def test_public_name_is_importable_and_documented(name: str) -> None:
    value = getattr(lorakit, name)
    if callable(value) or inspect.ismodule(value):
        assert own_docstring(value), f"lorakit.{name} has no docstring"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = lorakit.no_such_name


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_error_is_a_lorakit_error_and_documented(error: type[BaseException]) -> None:
    warns = issubclass(error, Warning)
    assert issubclass(error, UserWarning if warns else lorakit.errors.LorakitError)
    assert own_docstring(error), f"{error.__name__} has no docstring"


def own_docstring(value: object) -> str | None:
    """The docstring of `value` itself; a class must not pass with what it inherits."""
    return value.__dict__.get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)
