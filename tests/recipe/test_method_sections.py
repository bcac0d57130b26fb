"""Settings of methods that can have no effect, and which of them are named."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe import from_mapping, with_settings
from lorakit.recipe.yaml_file import load_mapping, to_yaml

SMALLEST = {"base": "b", "data": {"train": "t.csv"}, "output": "o"}
SEVERAL = {**SMALLEST, "method": "pfeiffer", "houlsby": {"bottleneck": 4}, "lora": {"r": 4}}


def with_set(mapping, *settings):
    """The recipe of `lorakit train` with these `--set`."""
    return from_mapping(with_settings(mapping, settings), settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            ["method=lora_prefix", "lora.r=4"],
            "lora.r is set, and method is lora_prefix; its own is lora_prefix.lora.r",
        ),
        (
            ["method=pfeiffer", "houlsby.bottleneck=8"],
            "houlsby.bottleneck is set, and method is pfeiffer; its own is pfeiffer.bottleneck, "
            "else set method=houlsby, or leave it out",
        ),
        (
            ["houlsby.attention_output=attn"],
            "houlsby.attention_output is set, and method is lora; set method=houlsby, or leave it "
            "out",
        ),
        (["method=head", "lora={r: 4}"], "lora is set, and method is head; set method=lora"),
    ],
)
def test_a_setting_of_another_method_is_named_with_the_right_one(settings, problem):
    with pytest.raises(ConfigError) as caught:
        with_set(SMALLEST, *settings)
    assert [problem] == [told[: len(problem)] for told in caught.value.problems]


def test_it_is_told_with_every_other_mistake():
    with pytest.raises(ConfigError) as caught:
        with_set(SMALLEST, "method=head", "lora.r=4", "training.epoch=2")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("method", ["pfeiffer", "houlsby", "lora", "head"])
def test_a_file_may_have_sections_of_several_methods(method):
    assert with_set(SEVERAL, f"method={method}").method == method


def test_the_section_of_lora_beside_lora_prefix_is_refused():
    mapping = {**SMALLEST, "method": "lora_prefix", "lora": {"r": 4}, "lora_prefix": {"prefix": 2}}
    problem = "the section lora is of another method, and that of lora_prefix is lora_prefix.lora"
    with pytest.raises(ConfigError, match=problem):
        from_mapping(mapping)
    with pytest.raises(ConfigError, match=problem):
        with_set(SEVERAL, "method=lora_prefix")


def test_both_are_read_where_both_are_given(tmp_path):
    recipe = with_set(SEVERAL, "method=lora_prefix", "lora_prefix.lora.r=2")
    assert recipe.method_config.lora.r == 2
    assert recipe.method_config.lora.lora_alpha == 16
    assert recipe.lora.r == 4
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert from_mapping(load_mapping(tmp_path / "recipe.yaml", "recipe")) == recipe


@pytest.mark.parametrize("method", ["houlsby", "lora_prefix", "prefix_layer", "bitfit", "full"])
@pytest.mark.parametrize("setting", ["init_adapter", "loraplus_lr_ratio"])
def test_what_is_for_the_adapters_of_lora_is_said_to_be(method, setting):
    sections = {"init_adapter": {"init_adapter": "a"}}.get(setting, {"training": {setting: 16}})
    problem = f"{setting} .* the adapters of method lora, and method is {method}; leave"
    with pytest.raises(ConfigError, match=problem):
        from_mapping({**SMALLEST, "method": method, **sections})
