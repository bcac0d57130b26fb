"""LoraConfig: what it refuses, what it copies, and PEFT's reading of its patterns."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from lorakit.config import LoraConfig, alpha_for, is_bias, is_number, scaling
from lorakit.errors import ConfigError

# --- what is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("r", value) for value in (0, -1, 2.0, "8", True, None)],
        *[("lora_alpha", value) for value in (0, -1, math.nan, math.inf, 10**400, "8", True, None)],
        *[("lora_dropout", value) for value in (-0.1, 1, 1.0, math.nan, "0", None, False)],
        *[("bias", value) for value in ("lora", None, True, ["none"])],
        *[("use_rslora", value) for value in ("false", 0, 1, None)],
        *[("use_dora", value) for value in ("false", 0, 1, None)],
        *[("merge_weights", value) for value in ("false", 0, None)],
        *[("init_lora_weights", value) for value in ("pissa", None, 2, ["gaussian"])],
        *[("target_modules", value) for value in ([], [""], [1], 5, "(", ["q", None])],
        *[("exclude_modules", value) for value in ([], [""], [1], 5, "(")],
        *[("modules_to_save", value) for value in ([], [""], "head", 5)],
        *[("layers_to_transform", value) for value in ([], [-1], "a", ["1"], -1, 1.5, True)],
        *[("layers_pattern", value) for value in ("", [], ["a.*"], "h", 5)],
        *[("rank_pattern", value) for value in ({"q": 0}, {"q": 2.0}, {"(": 2}, {1: 2}, None)],
        *[("alpha_pattern", value) for value in ({"q": 0}, {"q": "1"}, {"(": 2}, {1: 2}, [])],
        *[("slices", {"q": value}) for value in ([], [False], [True, 1], 5, True, "ab", [[1]])],
        *[("slices", {"q": value}) for value in ([(0, True)], [(-1, True)], [(1.0, True)])],
        *[("slices", {"q": value}) for value in ([True, (4, True)], [(4, 1)], [(True, True)])],
        *[("slices", value) for value in (None, ["q"])],
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match="Invalid LoraConfig") as caught:
        LoraConfig(**{field: value})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(field)


def test_every_problem_is_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        LoraConfig(
            r=0,
            lora_alpha=-1,
            lora_dropout=2,
            target_modules=5,
            exclude_modules=[],
            layers_to_transform=[-1],
            layers_pattern=["h*"],
            rank_pattern={"a": 0, "(": 4},
            alpha_pattern={"b": 0},
            modules_to_save="head",
            target_parameters="experts",
            bias="some",
            init_lora_weights="best",
            variant="",
            slices={"q": [False], "v": 3},
            trainable_token_indices=[],
        )
    named = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 18
    for field in dataclasses.fields(LoraConfig):
        if field.name not in ("use_rslora", "use_dora", "merge_weights"):
            assert field.name in named, field.name


@pytest.mark.parametrize(("use_dora", "variant"), [(False, "dora"), (True, "other")])
def test_use_dora_that_contradicts_the_variant_is_refused(use_dora, variant):
    with pytest.raises(ConfigError, match=f"use_dora={use_dora} contradicts variant='{variant}'"):
        LoraConfig(use_dora=use_dora, variant=variant)


def test_a_copy_without_dora_is_no_dora_or_an_error():
    config = LoraConfig(use_dora=True)
    assert config.replace(use_dora=False).variant == "lora"
    with pytest.raises(ConfigError, match="set only one of them"):
        dataclasses.replace(config, use_dora=False)


def test_a_new_field_is_the_last_by_position():
    assert LoraConfig(8, 16, 0.0, None, None, None, {}, {}, None, "none", False, True, False) == (
        LoraConfig(lora_alpha=16, use_dora=True, init_lora_weights=False)
    )


@pytest.mark.parametrize("key", ["(?i)query", "a)(b"])
def test_a_key_that_breaks_only_within_the_whole_pattern_is_refused(key):
    with pytest.raises(ConfigError, match="not a valid regular expression"):
        LoraConfig(rank_pattern={key: 4})


def test_a_regular_expression_for_whole_names_may_have_flags():
    assert LoraConfig(target_modules="(?i).*QUERY").target_modules == "(?i).*QUERY"


def test_an_unknown_field_is_an_error():
    with pytest.raises(TypeError, match="rank"):
        LoraConfig(rank=4)


# --- what it is


def test_it_is_frozen():
    config = LoraConfig()
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, 1)


def test_it_shares_nothing_with_what_it_was_made_from():
    given = {
        "target_modules": ["q"],
        "exclude_modules": ["x"],
        "modules_to_save": ["head"],
        "layers_to_transform": [0],
        "rank_pattern": {"q": 2},
        "alpha_pattern": {"q": 3},
        "slices": {"qkv": [True, False]},
    }
    config = LoraConfig(**given)
    twin = LoraConfig(**copy.deepcopy(given))
    for value in given.values():
        value.clear()
    assert config == twin
    assert config.target_modules == ("q",)
    assert config.rank_of("q") == 2


@pytest.mark.parametrize("container", [list, tuple, set, dict.fromkeys, iter])
def test_names_come_in_any_container(container):
    assert LoraConfig(target_modules=container(["q"])).target_modules == ("q",)


@pytest.mark.parametrize("layers", [3, [3], range(2, 5)])
def test_layers_are_a_number_or_several(layers):
    config = LoraConfig(layers_to_transform=layers)
    assert config.layers_to_transform == (layers if layers == 3 else tuple(layers))


def test_it_is_a_value_that_survives_copying_and_pickling():
    config = LoraConfig(r=4, target_modules=["q"], slices={"q": [(6, True), (2, False)]})
    for clone in (copy.deepcopy(config), pickle.loads(pickle.dumps(config)), config.replace()):
        assert clone == config
    changed = config.replace(r=2, lora_alpha=3)
    assert (changed.r, changed.lora_alpha, changed.slices) == (2, 3, config.slices)
    assert config.r == 4
    with pytest.raises(ConfigError):
        config.replace(r=0)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ([True, False, True], ((None, True), (None, False), (None, True))),
        ((True,), ((None, True),)),
        ([(6, True), [2, False]], ((6, True), (2, False))),
        ([(None, True), (None, False)], ((None, True), (None, False))),
    ],
)
def test_slices_are_normalised_to_heights_and_flags(given, normal):
    config = LoraConfig(slices={"qkv": given})
    assert config.slices == {"qkv": normal}
    assert LoraConfig(slices=config.slices).slices == config.slices


# --- patterns, with PEFT as the peer

names = st.sampled_from(
    ["q", "query", "layer.0.q", "layer.10.q", "h.0.attn.c_attn", "model.layer.1.query", "xq"]
)
keys = st.sampled_from(
    [
        *("q", "query", "layer.0.q", r"layer\.0\.q", "layer.[01].*", "0.q", ".*q", "^q", "q$"),
        *("^layer", "c_attn|q", r"layer\.1\d*\.q", r".*\.(q|query)", "layer", "attn.c_attn"),
        *(r"h\.\d+\..*", r"^layer\.0\.q", r"^q", r"^model\.layer\.1\.query"),
    ]
)


@settings(max_examples=300)
@given(st.lists(keys, max_size=4, unique=True), names)
def test_patterns_are_read_as_peft_reads_them(pattern, name):
    ranks = {key: index + 10 for index, key in enumerate(pattern) if key}
    key = get_pattern_key(ranks.keys(), name)
    config = LoraConfig(r=5, lora_alpha=7, rank_pattern=ranks, alpha_pattern=ranks)
    assert config.rank_of(name) == ranks.get(key, 5)
    assert config.alpha_of(name) == ranks.get(key, 7)


@settings(max_examples=200)
@given(keys, names)
def test_a_key_matches_where_peft_finds_it(key, name):
    config = LoraConfig(rank_pattern={key: 2}, alpha_pattern={key: 3})
    matches = get_pattern_key([key], name) == key
    assert (config.rank_of(name), config.alpha_of(name)) == ((2, 3) if matches else (8, 8))
    unmatched = [] if matches else [("rank_pattern", key), ("alpha_pattern", key)]
    assert config.unmatched_keys([name]) == unmatched


@settings(max_examples=200)
@given(st.lists(keys, unique=True, max_size=5), names)
def test_the_first_of_several_keys_counts_whether_it_is_spelt_or_an_expression(given_keys, name):
    config = LoraConfig(rank_pattern={key: 10 + i for i, key in enumerate(given_keys)})
    first = next((i for i, k in enumerate(given_keys) if get_pattern_key([k], name) == k), -2)
    assert config.rank_of(name) == 10 + first


def test_the_first_key_that_matches_wins():
    config = LoraConfig(rank_pattern={"q": 2, "layer.0.q": 3})
    assert config.rank_of("layer.0.q") == 2
    config = LoraConfig(rank_pattern={"layer.0.q": 3, "q": 2})
    assert config.rank_of("layer.0.q") == 3
    assert config.rank_of("layer.1.q") == 2


# --- numbers


@given(st.integers(1, 4096), st.floats(1e-3, 1e4), st.booleans())
def test_alpha_for_inverts_scaling(r, alpha, rslora):
    scale = scaling(r, alpha, rslora)
    assert scale == pytest.approx(alpha / (math.sqrt(r) if rslora else r))
    assert alpha_for(scale, r, rslora) == pytest.approx(alpha)


def test_alpha_for_gives_a_whole_number_where_there_is_one():
    alpha = alpha_for(2.0, 8, False)
    assert alpha == 16
    assert type(alpha) is int
    assert type(alpha_for(0.3, 8, False)) is float


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(value, True) for value in (1, 0, 0.5, -2)],
        *[(value, False) for value in (True, math.nan, math.inf, "1", None)],
    ],
)
def test_is_number_is_a_finite_one(value, expected):
    assert is_number(value) is expected


@pytest.mark.parametrize("leaf", ["bias", "in_proj_bias", "bias_k", "bias_ih_l0"])
def test_is_bias_knows_torchs_names(leaf):
    assert is_bias(leaf)


@pytest.mark.parametrize("leaf", ["weight", "relative_position_bias_table", "biased", "biases"])
def test_is_bias_leaves_tables_alone(leaf):
    assert not is_bias(leaf)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"is \[\]; it must list one or more integers"),
        ([1, -1], "must list one or more integers"),
        ([1.0], "must list one or more integers"),
        ("5", "must list one or more integers"),
        ([3, 1, 3], "lists 3 more than once"),
        ({}, "its keys must be names of modules"),
        ({1: [1]}, "its keys must be names of modules"),
        ({"embed": [True]}, r"\['embed'\] is \[True\]; it must list"),
    ],
)
def test_tokens_that_cannot_be_trained_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        LoraConfig(trainable_token_indices=given)


def test_tokens_are_kept_in_ascending_order():
    assert LoraConfig(trainable_token_indices=[9, 2]).trainable_token_indices == (2, 9)
    config = LoraConfig(trainable_token_indices={"embed": [9, 2], "head": (1,)})
    assert config.trainable_token_indices == {"embed": (2, 9), "head": (1,)}
