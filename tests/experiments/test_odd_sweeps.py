"""Whatever a sweep's file holds: a plan, or one error of lorakit's own."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorakit.errors import ConfigError
from lorakit.experiments.sweep_file import planned, runnable
from tests.experiments.sweeps import T, sweep

WORDS = st.sampled_from(
    ["", " ", "lora", "full", "one", "training", "training.seed", "lora.r", "lora.", "method",
     "choose", "grid", "like", "metrics", "recipe", "base", "task", "data", "average", "mnli",
     "accuracy", "values", "source", "glue", "87.5 ± .3", "../x", "t.csv", "\0", "é", "."]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(), WORDS, st.just(10**30)
)
KEYS = st.one_of(WORDS, st.none(), st.booleans(), st.integers(-1, 3), st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
FULL = {
    "tasks": {"one": {"metrics": ["accuracy"]}, "two": {"data": {"train": T}}},
    "methods": {
        "lora": {"choose": {"training.learning_rate": [0.1, 0.2]}, "grid": {"lora.r": [1]}},
        "wide": {"like": "lora", "lora": {"r": 8}},
        "head": None,
    },
    "choose": {"training.weight_decay": [0.1]},
    "reference": "lora",
    "published": [{"method": "head", "source": "s", "values": {"one": {"accuracy": "1 ± 2"}}}],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that a value holds."""
    parts = value.items() if isinstance(value, dict) else ()
    parts = enumerate(value) if isinstance(value, list) else parts
    return [path, *(p for key, part in parts for p in places(part, (*path, key)))]


def assert_a_plan_or_an_error(tmp_path: Path, data: st.DataObject) -> None:
    """One or two parts of a sweep are something else, or are called otherwise."""
    mapping: Any = copy.deepcopy(sweep(tmp_path, **FULL))
    for _ in range(data.draw(st.integers(1, 2))):
        *above, last = data.draw(st.sampled_from(places(mapping)[1:]))
        inside = mapping
        for key in above:
            inside = inside[key]
        value = data.draw(VALUES)
        if isinstance(inside, dict) and data.draw(st.booleans()):
            inside[data.draw(KEYS)] = value
        else:
            inside[last] = value
    for read in (planned, runnable):
        with suppress(ConfigError):
            read(mapping)


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@given(st.data())
@settings(deadline=None, suppress_health_check=QUIET, max_examples=15)
def test_odd_sweeps_are_plans_or_errors(tmp_path: Path, data: st.DataObject) -> None:
    assert_a_plan_or_an_error(tmp_path, data)


@pytest.mark.slow
@given(st.data())
@settings(deadline=None, suppress_health_check=QUIET, max_examples=1000)
def test_many_odd_sweeps_are_plans_or_errors(tmp_path: Path, data: st.DataObject) -> None:
    assert_a_plan_or_an_error(tmp_path, data)
