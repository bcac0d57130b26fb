"""Where a setting stands: in its section, under its dotted name, or under a name with dots."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.recipe.dotted_names import dotted, merged


@pytest.mark.parametrize(
    ("mapping", "name", "expected"),
    [
        ({}, "lora.r", {"lora": {"r": 9}}),
        ({"lora": {"r": 1, "dropout": 0}}, "lora.r", {"lora": {"r": 9, "dropout": 0}}),
        ({"lora": None}, "lora.r", {"lora": {"r": 9}}),
        ({"lora.r": 1}, "lora.r", {"lora.r": 9}),
        ({"lora": {"dropout": 0}, "lora.r": 1}, "lora.r", {"lora": {"dropout": 0}, "lora.r": 9}),
        (
            {"rank_pattern": {"layer.0.query": 1}},
            "rank_pattern.layer.0.query",
            {"rank_pattern": {"layer.0.query": 9}},
        ),
        ({"methods": {"GPT-2.5": {"lora.r": 1}}}, "methods.GPT-2.5.lora.r",
         {"methods": {"GPT-2.5": {"lora.r": 9}}}),
        ({"data.columns": {"a": 1, "b": 2}}, "data.columns.a", {"data.columns": {"a": 9, "b": 2}}),
    ],
)  # fmt: skip
def test_a_value_takes_the_place_of_the_one_of_its_name(mapping, name: str, expected) -> None:
    before = repr(mapping)
    assert merged(mapping, {name: 9}) == (expected, [])
    assert repr(mapping) == before, "it is a copy"


def test_a_value_where_a_section_would_have_to_be_is_named() -> None:
    values: dict[str, Any] = {"base.x": 1, "lora.r.x": 2, "seed": 3}
    found, conflicts = merged({"base": "b", "lora.r": 4}, values)
    assert conflicts == [
        "base.x: base is a value, not a section of settings",
        "lora.r.x: lora.r is a value, not a section of settings",
    ]
    assert found == {"base": "b", "lora.r": 4, "seed": 3}


def test_what_is_there_twice_is_given_twice() -> None:
    assert list(dotted({"lora": {"r": 1}, "lora.r": 2})) == [("lora.r", 1), ("lora.r", 2)]
