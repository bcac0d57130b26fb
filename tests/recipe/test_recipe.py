"""A recipe is checked whole, and its YAML reads back equal."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError
from lorakit.methods import MethodConfig
from lorakit.recipe.schema import (
    DataConfig,
    Recipe,
    TrainingConfig,
    differences,
    from_mapping,
)
from lorakit.recipe.yaml_file import load_recipe, to_yaml, with_settings, with_values

SMALLEST = {"base": "b", "data": {"train": "t.csv"}, "output": "o"}


def read(text: str, path: Path) -> Recipe:
    path.write_text(text, encoding="utf-8")
    return from_mapping(load_recipe(path))


def test_defaults_are_those_of_the_classes():
    assert from_mapping(SMALLEST) == Recipe("b", DataConfig("t.csv"), "o")
    assert from_mapping(SMALLEST).lora == LoraConfig(lora_alpha=16, target_modules="all-linear")


def test_one_setting_of_lora_leaves_the_others_as_they_were():
    lora = from_mapping({**SMALLEST, "lora": {"r": 4}}).lora
    assert lora == LoraConfig(r=4, lora_alpha=16, target_modules="all-linear")


def test_every_mistake_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        from_mapping(
            {
                "data": {"trian": "t.csv", "text": [1], "max_length": 0},
                "output": 3,
                "metod": "lora",
                "method": "lroa",
                "lora": {"r": 0, "lora_dropot": 0.1, "lora_alpha": "x"},
                "training": {
                    "learning_rate": -1,
                    "epochs": "two",
                    "total_batch": True,
                    "dtype": "fp8",
                    "schedule": "square",
                    "early_stopping": -1,
                },
            }
        )
    problems = "\n".join(caught.value.problems)
    for expected in (
        "base is missing",
        "unknown setting metod (did you mean 'method'?)",
        "unknown setting data.trian (did you mean 'train'?)",
        "data.train is missing",
        "data.text is [1]; it must be a list of strings or null",
        "output is 3; it must be a string",
        "method is 'lroa'; it must be one of lora, full, head",
        "unknown setting lora.lora_dropot (did you mean 'lora_dropout'?)",
        "lora.r is 0",
        "lora.lora_alpha is 'x'; it must be a number",
        "training.epochs is 'two'; it must be a number",
        "training.total_batch is True; it must be an integer",
        "training.dtype is 'fp8'; it must be one of auto, fp32, bf16, fp16",
        "training.schedule is 'square'; it must be one of linear",
        "training.learning_rate is -1; it must be above 0",
        "training.early_stopping is -1; it must be 0 or above",
    ):
        assert expected in problems


@pytest.mark.parametrize("section", ["data", "training", "lora", "head", "full"])
def test_a_section_that_is_a_value_is_told(section):
    with pytest.raises(ConfigError, match=f"{section} is 'x'; it must be a mapping of settings"):
        from_mapping({**SMALLEST, section: "x"})


@pytest.mark.parametrize("mapping", [{"train": "t", "test": 0}, {"train": "t", "validation": -1}])
def test_nothing_cannot_be_set_apart(mapping):
    with pytest.raises(
        ConfigError, match=r"is (0|-1); it must be a share or a number of rows above 0"
    ):
        from_mapping({**SMALLEST, "data": mapping})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("beams", "(did you mean 'num_beams'?)"),
        ("no_repeat_ngram", "(did you mean 'no_repeat_ngram_size'?)"),
        ("batch_rows", "(did you mean 'batch_size'?)"),
        ("stop", "(did you mean 'stop_strings'?)"),
        ("xyz", "; the settings are max_new_tokens, temperature, top_p, seed, num_beams,"),
    ],
)
def test_a_name_that_transformers_does_not_have_is_unknown_and_its_own_is_told(name, hint):
    with pytest.raises(ConfigError) as caught:
        from_mapping({**SMALLEST, "decoding": {name: 1}})
    (problem,) = caught.value.problems
    assert problem.replace("decoding.", "").startswith(f"unknown setting {name}")
    assert hint in problem


def test_every_generation_setting_that_is_wrong_is_told_with_its_value():
    decoding = {"max_new_tokens": 0, "temperature": -1, "top_p": 0.0, "num_beams": 0}
    with pytest.raises(ConfigError) as caught:
        from_mapping({**SMALLEST, "decoding": decoding})
    assert list(caught.value.problems) == [
        "decoding.max_new_tokens is 0; it must be at least 1",
        "decoding.temperature is -1; it must be 0 (greedy decoding) or above",
        "decoding.top_p is 0.0; it must be above 0 and at most 1",
        "decoding.num_beams is 0; it must be at least 1",
    ]


def test_slices_and_patterns_come_from_yaml_lists(tmp_path):
    text = """
base: b
output: o
data: {train: t.csv, text: review}
lora:
  target_modules: [c_attn]
  layers_to_transform: [0, 2]
  rank_pattern: {"h.0.*c_attn": 4}
  alpha_pattern: {"h.0.*c_attn": 1e1}
  slices:
    c_attn: [true, false, true]
    qkv: [[64, true], [16, false]]
training: {learning_rate: 2e-3, check: off}
"""
    recipe = read(text, tmp_path / "r.yaml")
    assert recipe.data.text == ("review",)
    assert recipe.lora.rank_of("h.0.attn.c_attn") == 4
    assert recipe.lora.alpha_of("h.0.attn.c_attn") == 10
    assert recipe.lora == LoraConfig(
        lora_alpha=16,
        target_modules=["c_attn"],
        layers_to_transform=[0, 2],
        rank_pattern={"h.0.*c_attn": 4},
        alpha_pattern={"h.0.*c_attn": 10},
        slices={"c_attn": [True, False, True], "qkv": [(64, True), (16, False)]},
    )
    assert (recipe.training.learning_rate, recipe.training.check) == (0.002, "off")
    assert read(to_yaml(recipe), tmp_path / "again.yaml") == recipe


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
odd_words = words | st.sampled_from(["off", "no", "1e5", "1.0", "null", "~", "true", "0x1", "- a"])


@st.composite
def recipes(draw: Any) -> Recipe:
    training = TrainingConfig(
        learning_rate=draw(st.floats(1e-8, 1)),
        epochs=draw(st.floats(0.1, 9) | st.integers(1, 9)),
        max_steps=draw(st.none() | st.integers(1, 9)),
        check=draw(st.sampled_from(["on", "off"])),
        deterministic=draw(st.booleans()),
    )
    lora = LoraConfig(
        r=draw(st.integers(1, 64)),
        target_modules=draw(st.none() | st.lists(odd_words, min_size=1, max_size=3)),
        slices=draw(st.sampled_from([{}, {"qkv": [True, False]}, {"kv": [(8, True), (4, False)]}])),
    )
    data = DataConfig(
        draw(odd_words), text=draw(st.none() | st.lists(odd_words)), label=draw(odd_words)
    )
    return Recipe(
        draw(odd_words), data, draw(odd_words), settings={"lora": lora}, training=training
    )


@given(recipe=recipes())
def test_yaml_reads_back_equal(recipe, tmp_path_factory):
    assert read(to_yaml(recipe), tmp_path_factory.getbasetemp() / "recipe.yaml") == recipe


def test_settings_make_their_sections_and_read_yaml():
    settings = ["training.learning_rate=2e-3", "data.text=[a, b]", "lora.use_dora=true"]
    mapping = with_settings(SMALLEST, [*settings, "training.check=off"])
    recipe = from_mapping(mapping)
    assert recipe.training == TrainingConfig(learning_rate=0.002, check="off")
    assert recipe.data.text == ("a", "b")
    assert recipe.lora.use_dora is True
    assert "training" not in SMALLEST


def test_bad_settings_are_all_told():
    with pytest.raises(ConfigError) as caught:
        with_settings(SMALLEST, ["base", "=1", "base.x=1", "a={", "training..x=1"])
    told = "\n".join(caught.value.problems)
    assert "'base' is not of the form NAME=VALUE" in told
    assert "'=1' is not of the form NAME=VALUE" in told
    assert "base.x: base is a value, not a section of settings" in told
    assert "'{' is not a valid YAML value" in told
    assert "'training..x=1' is not of the form NAME=VALUE" in told


def test_values_are_taken_as_they_are():
    mapping = with_values(SMALLEST, {"data.train": "a: b.csv", "base": "2024"})
    assert (mapping["data"]["train"], mapping["base"]) == ("a: b.csv", "2024")
    with pytest.raises(ConfigError, match="base is a value"):
        with_values(SMALLEST, {"base.x": "1"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read"),
        ("", "is not a mapping of settings"),
        ("- a", "is not a mapping of settings"),
        ("training: {seed: 1, seed: 2}", "the key seed occurs twice"),
    ],
)
def test_a_file_without_a_recipe_is_told(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read(text, tmp_path / "r.yaml")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "none.yaml"))):
        load_recipe(tmp_path / "none.yaml")


def test_differences_name_settings_and_both_values():
    one = from_mapping(SMALLEST)
    other = replace(one, output="elsewhere", training=TrainingConfig(seed=1), revision="main")
    assert differences(one, other) == [
        "training.seed is 0 in that run and 1 in this recipe",
        "revision is None in that run and 'main' in this recipe",
    ]


def test_a_loss_fills_in_what_its_kind_uses():
    loss = from_mapping({**SMALLEST, "loss": {"kind": "cutoff_span", "weight": 2}}).loss
    assert (loss.weight, loss.copy_weight, loss.ratio) == (2, 1, 0.1)
    loss = from_mapping({**SMALLEST, "loss": {"kind": "rdrop"}}).loss
    assert (loss.weight, loss.copy_weight, loss.ratio) == (1, None, None)
    assert from_mapping(SMALLEST).loss.weight is None


def test_every_mistake_of_a_loss_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        from_mapping(
            {**SMALLEST, "loss": {"kind": "rdrop", "weight": -1, "ratio": 0.2, "weight_": 1}}
        )
    text = str(caught.value)
    assert "loss.weight is -1; it must be 0 or above" in text
    assert "loss.ratio is set, and kind rdrop has no such setting" in text
    assert "unknown setting loss.weight_ (did you mean 'weight', 'copy_weight'?)" in text
    with pytest.raises(ConfigError, match=r"loss\.ratio is 1\.0; it must be above 0 and below 1"):
        from_mapping({**SMALLEST, "loss": {"kind": "cutoff_token", "ratio": 1.0}})
    with pytest.raises(ConfigError, match=r"loss\.kind is 'dropr'; it must be one of plain, rdrop"):
        from_mapping({**SMALLEST, "loss": {"kind": "dropr"}})


def test_what_a_loss_and_a_warm_start_mean_nothing_for_is_refused_together():
    mapping = {**SMALLEST, "loss": {"kind": "rdrop"}, "init_adapter": "a", "method": "head"}
    mapping["data"] = {"train": "t.csv", "task": "chat"}
    with pytest.raises(ConfigError) as caught:
        from_mapping(mapping)
    assert "the task chat has none; use plain" in str(caught.value)
    assert (
        "init_adapter initializes the adapters of method lora, and method is head; leave one of "
        "them out"
    ) in str(caught.value)


def test_a_guessed_task_is_checked_as_well():
    recipe = from_mapping({**SMALLEST, "loss": {"kind": "rdrop"}})
    with pytest.raises(ConfigError, match="the task generation has none"):
        replace(recipe, data=replace(recipe.data, task="generation"))


@pytest.mark.parametrize("kind", ["plain", "rdrop", "cutoff_token", "loralib_cutoff"])
def test_a_loss_reads_back_equal(kind, tmp_path):
    recipe = from_mapping({**SMALLEST, "loss": {"kind": kind}, "init_adapter": "runs/mnli"})
    assert read(to_yaml(recipe), tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"data": {"train": "t", "task": "stsb"}}, "the task stsb learns a number"),
        ({"data": {"train": "t", "task": "rte"}, "loss": {"kind": "rdrop"}}, "loss.kind is rdrop"),
    ],
)
def test_label_smoothing_is_for_the_plain_loss_of_labels(sections, problem):
    mapping = {"base": "b", "output": "o", "training": {"label_smoothing": 0.1}, **sections}
    with pytest.raises(ConfigError, match=problem):
        from_mapping(mapping)
    from_mapping({**mapping, "training": {}})


def test_a_section_of_a_method_that_is_not_chosen_is_kept_where_it_says_something(tmp_path):
    mapping = {**SMALLEST, "method": "head", "lora": {"r": 4}, "head": {"modules_to_save": ["a"]}}
    recipe = from_mapping(mapping)
    assert recipe.method_config == MethodConfig(["a"])
    assert recipe.lora == LoraConfig(r=4, lora_alpha=16, target_modules="all-linear")
    assert read(to_yaml(recipe), tmp_path / "r.yaml") == recipe
    assert load_recipe(tmp_path / "r.yaml")["lora"]["r"] == 4
    silent = from_mapping({**mapping, "lora": {"r": 8}, "full": {}})
    assert silent == from_mapping({**SMALLEST, "method": "head", "head": mapping["head"]})
    assert differences(recipe, silent) == ["lora.r is 4 in that run and 8 in this recipe"]


def test_a_recipe_with_every_default_of_lora_written_out_is_the_same_recipe():
    """As lorakit wrote them for any method."""
    lora = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
    for method in ("lora", "head", "full"):
        short = {**SMALLEST, "method": method}
        assert from_mapping({**short, "lora": lora}) == from_mapping(short)


def test_the_sections_of_methods_are_checked_whether_chosen_or_not():
    with pytest.raises(ConfigError) as caught:
        from_mapping(
            {
                **SMALLEST,
                "settings": {"lora": {}},
                "lroa": {"r": 4},
                "head": {"modules": ["a"]},
                "full": {"r": 1},
                "lora": {"r": 0},
            }
        )
    problems = "\n".join(caught.value.problems)
    for expected in (
        "unknown setting settings",
        "unknown setting lroa (did you mean 'lora'?)",
        "unknown setting head.modules (did you mean 'modules_to_save'?)",
        "unknown setting full.r",
        "lora.r is 0",
    ):
        assert expected in problems


@pytest.mark.parametrize("method", ["haed", 3, ["head"], None])
def test_an_unknown_method_is_told_beside_other_mistakes(method):
    with pytest.raises(ConfigError) as caught:
        from_mapping({"data": {"train": "t.csv"}, "output": "o", "method": method})
    told = f"method is {method!r}; it must be one of lora, full, head"
    assert sorted(caught.value.problems)[0] == "base is missing"
    assert sorted(caught.value.problems)[1].startswith(told)


def test_a_recipe_in_python_is_checked_as_well():
    with pytest.raises(ConfigError, match="method is 'x'; it must be one of lora, full, head"):
        Recipe("b", DataConfig("t.csv"), "o", method="x")
    with pytest.raises(
        ConfigError, match=r"settings\['head'\] is a LoraConfig; it must be a MethodConfig"
    ):
        Recipe("b", DataConfig("t.csv"), "o", method="head", settings={"head": LoraConfig()})
    with pytest.raises(ConfigError, match="method is 'hed'; it must be"):
        Recipe("b", DataConfig("t.csv"), "o", settings={"hed": MethodConfig()})
