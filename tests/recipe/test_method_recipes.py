"""One recipe with each of several methods."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe.method_recipes import method_recipes

MAPPING = {"base": "b", "data": {"train": "t.csv"}, "output": "o"}


def test_none_named_is_the_recipes_own():
    assert list(method_recipes({**MAPPING, "method": "head"}, [])) == ["head"]


def test_settings_of_each_named_method_count():
    mapping = {**MAPPING, "lora": {"r": 2}, "houlsby": {"bottleneck": 4}}
    found = method_recipes(mapping, ["lora", "houlsby"], ["lora.r=2", "houlsby.bottleneck=4"])
    assert found["lora"].method_config.r == 2
    assert found["houlsby"].method_config.bottleneck == 4


def test_setting_of_a_method_that_is_not_named_is_refused():
    with pytest.raises(ConfigError, match=r"lora\.r is set, and method is full"):
        method_recipes({**MAPPING, "lora": {"r": 2}}, ["full"], ["lora.r=2"])


def test_what_only_adapters_have_is_left_out_of_others():
    training = {"loraplus_lr_ratio": 16, "seed": 3}
    mapping = {**MAPPING, "training": training, "init_adapter": "a"}
    found = method_recipes(mapping, ["lora", "full"])
    assert found["lora"].init_adapter == "a"
    assert found["full"].init_adapter is None
    assert found["full"].training.seed == 3
    with pytest.raises(ConfigError, match="init_adapter initializes"):
        method_recipes({**mapping, "method": "full"}, [])
