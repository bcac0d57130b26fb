"""Which modules a config means, that PEFT would mean the same, and every mistake at once."""

from __future__ import annotations

import re
import time
import warnings
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils import prune
from transformers.pytorch_utils import Conv1D

import lorakit as lora
from lorakit.errors import ConfigError, TargetError
from lorakit.injection.selection.matching import select
from lorakit.layers import conversion
from lorakit.variants import ConvSite
from tests.injection import zoo


def names(model: nn.Module, **fields: Any) -> list[str]:
    return [t.name for t in select(model, lora.LoraConfig(**fields)).targets]


def assert_problems(model: nn.Module, problems: list[str], **fields: Any) -> None:
    """The one error lists exactly these problems, in any order, and the model is untouched."""
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(TargetError) as caught:
        lora.inject(model, lora.LoraConfig(**fields))
    assert sorted(caught.value.problems) == sorted(problems)
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert all(parameter.requires_grad for parameter in model.parameters())


# --- how names are matched


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            ["query"],
            ["encoder.layer.0.attention.self.query", "encoder.layer.1.attention.self.query"],
        ),
        (["0.attention.self.query"], ["encoder.layer.0.attention.self.query"]),
        (["encoder.layer.1.attention.self.key"], ["encoder.layer.1.attention.self.key"]),
        (["pooler.dense"], ["pooler.dense"]),
        (
            r".*\.1\..*(query|key)",
            [f"encoder.layer.1.attention.self.{n}" for n in ("query", "key")],
        ),
        (r"pooler.*", ["pooler.dense"]),
    ],
)
def test_suffixes_whole_names_and_expressions_select(
    pattern: list[str] | str, expected: list[str]
) -> None:
    assert names(zoo.bert(), target_modules=pattern) == expected


def test_a_suffix_matches_whole_parts_of_a_name_only() -> None:
    model = nn.ModuleDict({"q": nn.Linear(2, 2), "wq": nn.Linear(2, 2)})
    assert names(model, target_modules=["q"]) == ["q"]


def test_all_linear_leaves_out_the_head_of_a_transformers_model() -> None:
    found = names(zoo.roberta(), target_modules="all-linear")
    assert not any(name.startswith("classifier") for name in found)
    assert len(found) == 2 * 6


def test_all_linear_leaves_out_a_tied_output_layer() -> None:
    found = names(zoo.gpt2(), target_modules="all-linear")
    suffixes = {name.split(".", 3)[3] for name in found}
    assert suffixes == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    assert len(found) == 8


def test_all_linear_takes_every_linear_layer_of_a_plain_model() -> None:
    assert names(zoo.sequential(), target_modules="all-linear") == ["0", "3", "5"]


def test_exclude_modules_takes_away_suffixes_or_an_expression() -> None:
    model = zoo.bert()
    kept = ["encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.value"]
    expression = r"encoder\.layer\.1\..*"
    assert names(model, target_modules=["query", "value"], exclude_modules=expression) == kept
    suffixes = ["1.attention.self.query", "value"]
    assert names(model, target_modules=["query", "value"], exclude_modules=suffixes) == kept[:1]


@pytest.mark.parametrize(("layers", "expected"), [(1, [1]), ([0], [0]), ([0, 1], [0, 1])])
def test_layers_to_transform_keeps_these_layers(
    layers: int | list[int], expected: list[int]
) -> None:
    found = names(zoo.llama(), target_modules=["q_proj"], layers_to_transform=layers)
    assert found == [f"model.layers.{index}.self_attn.q_proj" for index in expected]


def test_rank_and_alpha_patterns_take_suffixes_and_expressions() -> None:
    config = lora.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["query", "value"],
        rank_pattern={r"encoder\.layer\.0\..*": 2, "1.attention.self.value": 1},
        alpha_pattern={"value": 3},
    )
    found = {t.name: (t.spec.r, t.spec.scaling) for t in select(zoo.bert(), config).targets}
    assert found == {
        "encoder.layer.0.attention.self.query": (2, 8 / 2),
        "encoder.layer.0.attention.self.value": (2, 3 / 2),
        "encoder.layer.1.attention.self.query": (4, 8 / 4),
        "encoder.layer.1.attention.self.value": (1, 3 / 1),
    }


def test_rslora_divides_by_the_root_of_each_modules_own_rank() -> None:
    config = lora.LoraConfig(
        r=4, lora_alpha=6, use_rslora=True, target_modules=["0", "3"], rank_pattern={"3": 9}
    )
    scales = [t.spec.scaling for t in select(zoo.sequential(), config).targets]
    assert scales == [6 / 2, 6 / 3]


def test_modules_to_save_are_not_adapted_and_train_in_full() -> None:
    model = zoo.roberta()
    config = lora.LoraConfig(target_modules=["dense"], modules_to_save=["classifier"])
    selection = select(model, config)
    assert not any(target.name.startswith("classifier") for target in selection.targets)
    assert selection.trained == (
        (model.classifier.dense, "weight"),
        (model.classifier.dense, "bias"),
        (model.classifier.out_proj, "weight"),
        (model.classifier.out_proj, "bias"),
    )


def test_a_module_under_two_names_is_adapted_once() -> None:
    layer = nn.Linear(4, 4)
    model = nn.ModuleDict({"first": layer, "second": layer, "third": nn.Linear(4, 4)})
    assert names(model, target_modules="all-linear") == ["first", "third"]
    assert names(model, target_modules=["second"]) == ["second"]


def test_slices_fill_in_equal_heights_and_keep_unequal_ones() -> None:
    equal = lora.LoraConfig(target_modules=["qkv"], slices={"qkv": [True, False]})
    heights = [(8, True), (4, False), (4, True)]
    unequal = lora.LoraConfig(target_modules=["qkv"], slices={"qkv": heights})
    model = zoo.fused()
    assert select(model, equal).targets[0].site.slices == ((8, True), (8, False))
    assert select(model, unequal).targets[0].site.slices == tuple(heights)


# --- architectures that need no target_modules


def test_no_target_modules_means_query_and_value() -> None:
    found = names(zoo.t5())
    assert {name.rpartition(".")[2] for name in found} == {"q", "v"}
    assert len(found) == 2 * 2 + 2 * 4


def test_no_target_modules_means_the_q_and_v_slices_of_gpt2() -> None:
    targets = select(zoo.gpt2(), lora.LoraConfig()).targets
    assert [target.name for target in targets] == [f"transformer.h.{i}.attn.c_attn" for i in (0, 1)]
    assert {target.site.slices for target in targets} == {((16, True), (16, False), (16, True))}


@pytest.mark.parametrize("suffix", ["c_attn", "attn.c_attn", "h.0.attn.c_attn"])
def test_slices_that_are_given_come_before_the_architecture_s(suffix: str) -> None:
    config = lora.LoraConfig(r=4, slices={suffix: [True] * 3})
    first, second = select(zoo.gpt2(), config).targets
    assert first.site.slices == ((16, True),) * 3
    default = ((16, True), (16, False), (16, True))
    assert second.site.slices == (default if suffix.startswith("h.0") else first.site.slices)


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (zoo.phi3, "model_type 'phi3'"),
        (zoo.sequential, "a model without a transformers config"),
    ],
)
def test_no_target_modules_on_an_unknown_architecture_is_an_error(build: Any, what: str) -> None:
    problem = (
        f"target_modules is None, and there is no default for {what}; "
        "set it (`lorakit.targets(model)` lists the candidates)"
    )
    assert_problems(build(), [problem])


# --- mistakes


def test_every_mistake_is_listed_at_once() -> None:
    fields = {
        "target_modules": ["query", "vlaue", "attention", "LayerNorm"],
        "exclude_modules": ["nothing"],
        "rank_pattern": {"key": 4},
        "alpha_pattern": {"kye": 4},
        "modules_to_save": ["clasifier", "dropout"],
        "slices": {"qkv": [True, False]},
        "layers_to_transform": [0, 7],
    }
    model = zoo.bert("BertForSequenceClassification")
    with pytest.raises(TargetError) as caught:
        lora.inject(model, lora.LoraConfig(**fields))
    text = str(caught.value)
    for problem in (
        "target_modules: 'vlaue' matches no module (did you mean 'value'",
        "exclude_modules: 'nothing' matches no module",
        "rank_pattern: 'key' matches none of the target modules",
        "alpha_pattern: 'kye' matches none of the target modules",
        "modules_to_save: 'clasifier' matches no module (did you mean 'classifier'",
        "dropout is in modules_to_save, but has no parameters",
        "slices: 'qkv' matches none of the target modules",
        "layers_to_transform: no target module in layer 7; found layers 0, 1",
        "bert.encoder.layer.0.attention has type BertAttention, which is not supported",
        "bert.encoder.layer.0.output.LayerNorm has type LayerNorm, which is not supported",
    ):
        assert problem in text
    assert text.splitlines()[0] == "This LoraConfig does not fit BertForSequenceClassification:"


def test_an_unmatched_pattern_among_matched_ones_is_an_error() -> None:
    problem = "target_modules: 'qurey' matches no module (did you mean 'query'?)"
    assert_problems(zoo.bert(), [problem], target_modules=["value", "qurey"])


def test_an_expression_without_a_match_is_an_error() -> None:
    problem = (
        "target_modules: the regular expression 'query' matches no layer; a string has to match "
        "the full module name; to match a suffix, use the list ['query']"
    )
    assert_problems(zoo.bert(), [problem], target_modules="query")


def test_patterns_that_cancel_out_are_an_error() -> None:
    problem = "no target module is left after exclude_modules and layers_to_transform"
    fields = {"target_modules": ["query"], "exclude_modules": ["query"]}
    assert_problems(zoo.bert(), [problem], **fields)


def test_modules_to_save_without_parameters_is_an_error() -> None:
    problem = "1 is in modules_to_save, but has no parameters"
    assert_problems(zoo.sequential(), [problem], target_modules=["0"], modules_to_save=["1"])


def test_no_linear_layer_at_all_is_an_error() -> None:
    problem = "target_modules is 'all-linear', but there is no linear layer"
    assert_problems(nn.Sequential(nn.LayerNorm(2)), [problem], target_modules="all-linear")


@pytest.mark.parametrize("rank", [0, -1, 2.0, True])
def test_a_rank_that_is_none_is_an_error(rank: Any) -> None:
    with pytest.raises(
        lora.errors.ConfigError, match=re.escape(f"r is {rank!r}; it must be an integer >= 1")
    ):
        lora.LoraConfig(r=rank)
    with pytest.raises(lora.errors.ConfigError, match=r"rank_pattern\['query'\] is"):
        lora.LoraConfig(rank_pattern={"query": rank})


@pytest.mark.parametrize("parts", [[True, False, True], [(8, True), (4, False)]])
def test_slices_that_do_not_add_up_are_an_error(parts: Any) -> None:
    problem = f"qkv has out_features=16; its {len(parts)} slices do not add up to it"
    assert_problems(zoo.fused(), [problem], target_modules=["qkv"], slices={"qkv": parts})


def test_slices_of_a_layer_that_is_not_linear_are_an_error() -> None:
    model = nn.Sequential(nn.Embedding(4, 6))
    problem = "0 has type Embedding; slices are for linear layers only"
    assert_problems(model, [problem], target_modules=["0"], slices={"0": [True, False]})


def test_a_rank_that_the_groups_do_not_divide_is_an_error() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 3, groups=2))
    problem = "0 has groups=2; r=3 must be a multiple of it"
    assert_problems(model, [problem], target_modules=["0"], r=3)


class OwnLinear(nn.Linear):
    """What its forward computes, nobody can know."""


class OwnConv(nn.Conv1d):
    """Nor here."""


def _int8() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    return layer


class PackedWeight(nn.Parameter):
    """Stands for the weight of a quantised or sharded layer."""


def _packed(kind: type[nn.Linear] = nn.Linear) -> nn.Module:
    layer = kind(4, 4)
    layer.weight = PackedWeight(torch.ones(4, 4))
    return layer


def _pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)


UNADAPTABLE = {
    "container": (
        lambda: nn.Sequential(nn.Linear(4, 4)),
        "has type Sequential, which is not supported",
    ),
    "norm": (lambda: nn.LayerNorm(4), "has type LayerNorm, which is not supported"),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 4, 3),
        "has type ConvTranspose2d; transposed convolutions are not supported",
    ),
    "transposed in one dimension": (
        lambda: nn.ConvTranspose1d(4, 4, 3),
        "has type ConvTranspose1d; transposed convolutions are not supported",
    ),
    "subclass of a convolution": (
        lambda: OwnConv(4, 4, 3),
        "has type OwnConv, an unregistered subclass of Conv1d; if its forward computes the same "
        "function, register the subclass with lorakit.layers.register",
    ),
    "subclass": (
        lambda: OwnLinear(4, 4),
        "has type OwnLinear, an unregistered subclass of Linear; if its forward computes the same "
        "function, register the subclass with lorakit.layers.register",
    ),
    "lazy": (
        lambda: nn.LazyLinear(4),
        "is a lazy module with uninitialized parameters; run one forward pass first",
    ),
    "int8": (_int8, "has a quantised weight of dtype torch.int8, which is not supported"),
    "packed": (
        _packed,
        "has a weight of type PackedWeight (quantised or sharded), which is not supported",
    ),
    "packed subclass": (  # bitsandbytes' Linear4bit
        lambda: _packed(OwnLinear),
        "has a weight of type PackedWeight (quantised or sharded), which is not supported",
    ),
    "parametrised": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        "is parametrized; call torch.nn.utils.parametrize.remove_parametrizations first",
    ),
    "parametrised convolution": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3)),
        "is parametrized; call torch.nn.utils.parametrize.remove_parametrizations first",
    ),
    "pruned": (
        _pruned,
        "has no parameter named weight (it may be pruned, weight-normalised or quantised)",
    ),
    "unfused attention": (
        lambda: nn.MultiheadAttention(4, 2, kdim=6),
        "is an nn.MultiheadAttention whose kdim or vdim differs from embed_dim, so it has no "
        "in_proj_weight",
    ),
}


@pytest.mark.parametrize("name", UNADAPTABLE)
def test_a_module_that_cannot_be_adapted_is_refused_by_name(name: str) -> None:
    build, reason = UNADAPTABLE[name]
    model = nn.ModuleDict({"good": nn.Linear(4, 4), "bad": build()})
    with pytest.raises(TargetError) as caught:
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["good", "bad"]))
    expected = [f"bad {reason}"]
    if name == "unfused attention":  # its output projection alone could be adapted
        expected = [p for p in caught.value.problems if p == f"bad {reason}"]
    assert list(caught.value.problems) == expected
    assert type(model["good"]) is nn.Linear


@pytest.mark.parametrize("name", [n for n in UNADAPTABLE if n not in ("container", "norm")])
def test_targets_says_why_a_weight_has_no_adapter(name: str) -> None:
    build, reason = UNADAPTABLE[name]
    found = lora.targets(nn.ModuleDict({"bad": build()}))
    if name.startswith("parametrised"):  # the weight is in a child that torch adds
        assert found.groups == ()
    else:
        assert found.refused["bad"] == reason


class Kernel(nn.Module):
    """A weight of three dimensions that is one kernel, in no class of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4, 3))


class KernelLayer(lora.Conv1d):
    torch_class = Kernel

    @classmethod
    def site_of(cls, module: nn.Module) -> ConvSite:
        return ConvSite((4, 4, 3), 1)


def test_a_layer_class_that_is_registered_later_is_listed_as_a_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversion, "ADAPTED", dict(conversion.ADAPTED))
    lora.layers.register(Kernel, KernelLayer)
    (group,) = lora.targets(nn.ModuleDict({"kernel": Kernel()}), r=2).groups
    assert (group.name, group.type, group.setting) == ("kernel", "Kernel", "target_modules")


def test_a_registered_subclass_is_adapted() -> None:
    class Same(nn.Linear):
        pass

    lora.layers.register(Same, lora.Linear)
    model = nn.Sequential(Same(4, 4))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    assert isinstance(model[0], lora.Linear)
    lora.eject(model)
    assert type(model[0]) is Same


# --- heads that the checkpoint does not bring


@pytest.fixture
def with_new_head(tmp_path: Any) -> nn.Module:
    zoo.bert("BertModel").save_pretrained(tmp_path)
    return transformers.BertForSequenceClassification.from_pretrained(tmp_path)


def test_a_newly_initialised_head_must_train(with_new_head: nn.Module) -> None:
    with pytest.raises(TargetError) as caught:
        lora.inject(with_new_head, lora.LoraConfig(r=2, target_modules=["query"]))
    weight, bias = sorted(caught.value.problems, reverse=True)
    assert weight.startswith(
        "classifier.weight is newly initialized, since the checkpoint lacks it"
    )
    assert bias.startswith("classifier.bias is newly initialized, since the checkpoint lacks it")
    assert "modules_to_save" in weight
    lora.inject(with_new_head, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    assert with_new_head.classifier.weight.requires_grad


def test_a_complete_checkpoint_needs_no_modules_to_save(tmp_path: Any) -> None:
    zoo.bert("BertForSequenceClassification").save_pretrained(tmp_path)
    model = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    assert lora.inject(model, lora.LoraConfig(r=2)).trained == {}


# --- the same as PEFT


PEFT_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "suffixes": ("bert", {"target_modules": ["query", "attention.output.dense"]}),
    "expression": ("bert", {"target_modules": r".*layer\.[01]\.attention.*(query|value)"}),
    "all linear, encoder": ("bert", {"target_modules": "all-linear"}),
    "all linear, decoder": ("llama", {"target_modules": "all-linear"}),
    "all linear, Conv1D and a tied head": ("gpt2", {"target_modules": "all-linear"}),
    "all linear, encoder-decoder": ("t5", {"target_modules": "all-linear"}),
    "all linear, audio": ("whisper", {"target_modules": "all-linear"}),
    "all linear, classifier": ("roberta", {"target_modules": "all-linear", "task_type": "SEQ_CLS"}),
    "exclude suffixes": (
        "t5",
        {
            "target_modules": ["q", "v"],
            "exclude_modules": ["1.layer.0.SelfAttention.q", "EncDecAttention.v"],
        },
    ),
    "exclude expression": (
        "llama",
        {"target_modules": "all-linear", "exclude_modules": r".*\.mlp\..*"},
    ),
    "one layer": ("llama", {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": 1}),
    "two layers": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "layers_to_transform": [0, 1]}),
    "layer of encoder and decoder": (
        "bart",
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    ),
    "first index counts": ("t5", {"target_modules": ["wi", "q"], "layers_to_transform": [0]}),
    "modules to save": (
        "roberta",
        {"target_modules": ["dense"], "modules_to_save": ["classifier"]},
    ),
    "vision": ("vit", {"target_modules": ["q_proj", "fc1"]}),
    "fused": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
    "plain": ("sequential", {"target_modules": ["0", "5"]}),
    "embedding": ("bert", {"target_modules": ["word_embeddings", "query"]}),
    "patches": ("vit", {"target_modules": ["projection"]}),
}


def peft_names(model: nn.Module, **fields: Any) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks of fan_in_fan_out and tied layers
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, **fields)).base_model.model
    return {
        name
        for name, module in adapted.named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    }


@pytest.mark.parametrize("name", PEFT_CASES)
def test_the_same_modules_are_selected_as_by_peft(name: str) -> None:
    architecture, fields = PEFT_CASES[name]
    build = zoo.CASES[architecture].build
    ours = {key: value for key, value in fields.items() if key != "task_type"}
    expected = peft_names(build(), **fields)
    assert set(names(build(), **ours)) == expected != set()


@pytest.mark.parametrize(
    "name", [n for n, (a, f) in PEFT_CASES.items() if f.keys() == {"target_modules"}]
)
def test_patterns_give_the_same_rank_and_scale_as_in_peft(name: str) -> None:
    architecture, fields = PEFT_CASES[name]
    build = zoo.CASES[architecture].build
    targets = names(build(), **fields)
    last = targets[-1].rpartition(".")[2]
    patterns = {"rank_pattern": {last: 3, targets[0]: 5}, "alpha_pattern": {r".*1.*": 7, last: 9}}
    patterns["alpha_pattern"] = {
        key: alpha
        for key, alpha in patterns["alpha_pattern"].items()
        if any(re.fullmatch(rf"(.*\.)?({key})", target) for target in targets)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=2, lora_alpha=4, **fields, **patterns)
        theirs = peft.get_peft_model(build(), config).base_model.model
    selection = select(build(), lora.LoraConfig(r=2, lora_alpha=4, **fields, **patterns))
    expected = {
        name: (module.r["default"], module.scaling["default"])
        for name, module in theirs.named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    }
    assert {t.name: (t.spec.r, t.spec.scaling) for t in selection.targets} == expected


def test_conv1d_is_recognised_without_transformers() -> None:
    model = nn.Sequential(Conv1D(6, 4))
    assert names(model, target_modules="all-linear") == ["0"]


@pytest.mark.parametrize(
    "wrong", [{"r": 8}, peft.LoraConfig(r=8, target_modules=["query"]), None, "all-linear"]
)
def test_what_is_no_lora_config_is_refused_with_what_to_pass(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"pass a lorakit\.LoraConfig, whose fields have PEFT's"):
        lora.inject(zoo.bert(), wrong)


def test_a_pattern_may_exclude_what_was_not_selected_anyway() -> None:
    model = zoo.llama()
    report = lora.inject(
        model, lora.LoraConfig(target_modules="all-linear", exclude_modules=["lm_head", "q_proj"])
    )
    assert {layer.name.rpartition(".")[2] for layer in report.layers} == {
        *("k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }


@pytest.mark.parametrize("pattern", ["lm_haed", "self_attn"])
def test_a_pattern_that_can_exclude_nothing_is_an_error(pattern: str) -> None:
    """A container has no weight of its own."""
    with pytest.raises(TargetError, match=f"exclude_modules: '{pattern}' matches no module"):
        lora.inject(
            zoo.llama(), lora.LoraConfig(target_modules="all-linear", exclude_modules=[pattern])
        )


def test_many_wrong_names_are_refused_soon() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(500)))
    wrong = [f"layers.{n}.wrong_projection" for n in range(300)]
    started = time.perf_counter()
    with pytest.raises(TargetError) as caught:
        lora.inject(model, lora.LoraConfig(target_modules=wrong))
    assert len(caught.value.problems) == 300
    assert time.perf_counter() - started < 5


def test_many_keys_for_one_module_each_are_resolved_soon() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(2000)))
    ranks = {f"^{n}": 1 + n % 2 for n in range(2000)}
    started = time.perf_counter()
    report = lora.inject(
        model, lora.LoraConfig(target_modules="all-linear", rank_pattern=ranks, alpha_pattern=ranks)
    )
    assert [layer.r for layer in report.layers] == list(ranks.values())
    assert time.perf_counter() - started < 15


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_both_towers_of_an_image_and_text_model_have_default_targets(name: str) -> None:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    config = getattr(transformers, f"{name}Config")(
        text_config={**sizes, "vocab_size": 40, "projection_size": 16},
        vision_config={**sizes, "image_size": 8, "patch_size": 4},
    )
    report = lora.inject(getattr(transformers, f"{name}Model")(config), lora.LoraConfig(r=2))
    assert {layer.name for layer in report.layers} == {
        f"{tower}.encoder.layers.0.self_attn.{projection}"
        for tower in ("text_model", "vision_model")
        for projection in ("q_proj", "v_proj")
    }
