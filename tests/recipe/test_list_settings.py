"""`--set NAME=a,b` is a list where the setting takes one."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.recipe import from_mapping, with_settings

LISTS: dict[str, tuple[str, Any]] = {
    "two": ("data.text=a,b", ["a", "b"]),
    "spaces": ("data.text=a, b", ["a", "b"]),
    "brackets": ("data.text=[a, b]", ["a", "b"]),
    "one": ("data.text=a", "a"),
    "quoted": ('data.text="a, b"', "a, b"),
    "quoted and not": ('data.text="a, b",c', ["a, b", "c"]),
    "numbers": ("data.thresholds=0.5,0.25", [0.5, 0.25]),
    "modules": ("lora.target_modules=query,value", ["query", "value"]),
    "one module": ("lora.target_modules=all-linear", "all-linear"),
    "expression": (r"lora.target_modules=.*\.(q|v){1,2}", r".*\.(q|v){1,2}"),
    "layers": ("lora.layers_to_transform=0,1", [0, 1]),
    "saved": ("lora.modules_to_save=a,b", ["a", "b"]),
    "stops": ("decoding.stop_strings=END,STOP", ["END", "STOP"]),
    "no list": ("output=runs/a,b", "runs/a,b"),
    "no setting": ("data.txt=a,b", "a,b"),
}


@pytest.mark.parametrize("name", LISTS)
def test_commas_separate_where_a_list_is_taken(name: str) -> None:
    setting, value = LISTS[name]
    *sections, leaf = setting.partition("=")[0].split(".")
    found: Any = with_settings({}, [setting])
    for section in sections:
        found = found[section]
    assert found == {leaf: value}


def test_a_list_by_commas_is_that_of_the_recipe() -> None:
    mapping = {"base": "b", "output": "o", "data": {"train": "t.csv"}}
    by_commas = with_settings(mapping, ["data.text=a,b", "lora.target_modules=q,v"])
    assert from_mapping(by_commas).data.text == ("a", "b")
    in_brackets = with_settings(mapping, ["data.text=[a, b]", "lora.target_modules=[q, v]"])
    assert from_mapping(by_commas) == from_mapping(in_brackets)
