"""The exception tree."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from lorakit import errors
from lorakit.errors import LorakitError, suggest

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, BaseException)
    if not issubclass(value, Warning)
]
BUILT_IN = {
    errors.ConfigError: ValueError,
    errors.TargetError: ValueError,
    errors.StateError: RuntimeError,
    errors.FormatError: ValueError,
    errors.MissingAlphaError: errors.FormatError,
    errors.MismatchError: ValueError,
    errors.PlanError: RuntimeError,
    errors.TrainingError: RuntimeError,
    errors.SaveError: OSError,
    errors.MissingDependencyError: ImportError,
}


def test_every_error_is_in_the_tree_and_has_a_built_in_parent():
    assert set(CLASSES) == {LorakitError, *BUILT_IN}
    for error, parent in BUILT_IN.items():
        assert issubclass(error, LorakitError)
        assert issubclass(error, parent)


def test_the_drawn_tree_names_every_error():
    drawn = re.findall(r"(\w+Error)\b", errors.__doc__ or "")
    assert set(drawn) - {"ValueError"} == {error.__name__ for error in CLASSES}


@pytest.mark.parametrize("error", CLASSES)
def test_a_message_is_a_headline_and_every_problem(error):
    raised = error("Nothing fits:", ["a is 1", "b is 2"])
    assert str(raised) == "Nothing fits:\n  - a is 1\n  - b is 2"
    assert (raised.headline, raised.problems) == ("Nothing fits:", ("a is 1", "b is 2"))
    assert str(error("Alone.")) == "Alone."
    assert error("Alone.").problems == ()


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize(
    "clone",
    [copy.copy, copy.deepcopy]
    + [lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)],
)
def test_an_error_survives_copying_and_pickling(error, clone):
    """Between the processes of a data loader or a test runner."""
    other = clone(error("Nothing fits:", ["a is 1", "b is 2"]))
    assert type(other) is error
    assert str(other) == "Nothing fits:\n  - a is 1\n  - b is 2"
    assert other.problems == ("a is 1", "b is 2")


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_is_caught_as_lorakits_and_by_its_built_in_parent(error):
    with pytest.raises(LorakitError):
        raise error("Alone.")
    with pytest.raises(BUILT_IN.get(error, Exception)):
        raise error("Alone.")


@pytest.mark.parametrize(
    ("name", "candidates", "expected"),
    [
        ("qurey", ["query", "value"], " (did you mean 'query'?)"),
        ("zzz", ["query", "value"], ""),
        ("query", [], ""),
        ("query", iter(["quer1", "quer2"]), " (did you mean 'quer2', 'quer1'?)"),
        ("layer.1", (f"layer.{i}" for i in range(2, 9)), None),
    ],
)
def test_suggest_names_the_nearest_or_nothing(name, candidates, expected):
    text = suggest(name, candidates)
    if expected is None:
        assert text.count("layer.") == 3
    else:
        assert text == expected


def test_text_of_a_very_long_problem_is_cut_and_the_problem_is_not():
    error = errors.ConfigError("wrong:", ["x" * 100_000, *["y"] * 5000])
    assert error.problems[0] == "x" * 100_000
    assert len(str(error)) < 10_000
    assert "(98,004 letters)" in str(error)
    assert str(error).endswith("\n  and 4,001 more")
