"""The table of methods, and which of them prepared a model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import lorakit as lora
from lorakit.errors import ConfigError, FormatError, StateError
from lorakit.methods import METHODS, MethodConfig, find, load, method_of, register
from lorakit.methods.head import Head


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Linear(4, 4), "classifier": nn.Linear(4, 2)})


LORA = lora.LoraConfig(r=2, target_modules=["body"])
PREPARED = {
    "lora": LORA,
    "full": find("full").default_config(),
    "head": MethodConfig(modules_to_save=["classifier"]),
}


def encoder() -> nn.Module:
    """A model that every method can prepare."""
    config = BertConfig(
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=8,
        vocab_size=10,
        max_position_embeddings=32,
    )
    return BertForSequenceClassification(config)


def prepare(model: nn.Module, name: str) -> None:
    settings = {"target_modules": ["query"]} if name == "lora" else {}
    METHODS[name].apply(model, METHODS[name].config_type(**settings), ["classifier"])


def test_the_methods_that_come_with_lorakit():
    assert [(m.name, m.title) for m in METHODS.values()] == [
        ("lora", "LoRA"),
        ("full", "full fine-tuning"),
        ("head", "head only"),
        ("bitfit", "BitFit"),
        ("last_layers", "last layers"),
        ("houlsby", "adapters (Houlsby)"),
        ("pfeiffer", "adapters (Pfeiffer)"),
        ("lin", "adapters (Lin)"),
        ("adapter_drop", "AdapterDrop"),
        ("prefix_embedding", "prefix embedding"),
        ("prefix_layer", "prefix layer"),
        ("lora_prefix", "LoRA + prefix"),
    ]


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ConfigError, match="A method named 'head' is already registered"):
        register(Head())


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"method is 'ful'; it must be one of .* 'full'\?"):
        find("ful")


@pytest.mark.parametrize("name", METHODS)
def test_a_prepared_model_knows_its_method_and_so_does_its_copy(name):
    model = encoder()
    assert method_of(model) is None
    prepare(model, name)
    assert method_of(model) is METHODS[name]
    assert method_of(nn.DataParallel(model)) is METHODS[name]
    assert method_of(copy.deepcopy(model)) is METHODS[name]


@pytest.mark.parametrize("second", METHODS)
@pytest.mark.parametrize("first", METHODS)
def test_a_prepared_model_is_not_prepared_twice(first, second):
    model = encoder()
    prepare(model, first)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    with pytest.raises(StateError, match="already"):
        prepare(model, second)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert method_of(model) is METHODS[first]


@pytest.mark.parametrize("name", ["lora", "head"])
def test_undo_gives_the_same_objects_and_flags_back(name):
    model = net()
    model["body"].weight.requires_grad_(False)
    before, keys = dict(model.named_parameters()), list(model.state_dict())
    flags = {n: p.requires_grad for n, p in before.items()}
    METHODS[name].apply(model, PREPARED[name])
    METHODS[name].undo(model)
    after = dict(model.named_parameters())
    assert list(model.state_dict()) == keys
    assert all(after[n] is p for n, p in before.items())
    assert {n: p.requires_grad for n, p in after.items()} == flags
    assert method_of(model) is None


def test_full_fine_tuning_cannot_be_undone():
    model = net()
    find("full").apply(model, PREPARED["full"])
    with pytest.raises(StateError, match="load the base again"):
        find("full").undo(model)


def test_eject_and_a_new_injection_end_what_was_noted():
    model = net()
    find("head").apply(model, PREPARED["head"])
    lora.eject(model)
    assert method_of(model) is None
    with pytest.raises(StateError, match="has no adapters"):
        lora.save_adapter(model, "nowhere")
    find("full").apply(model, PREPARED["full"])
    lora.inject(model, LORA)
    assert method_of(model) is find("lora")


def test_a_prepared_head_is_not_injected_over_so_that_eject_gives_all_flags_back():
    model = net()
    find("head").apply(model, PREPARED["head"])
    with pytest.raises(StateError, match=r"already trains .* in full.*lorakit\.eject"):
        lora.inject(model, LORA)
    assert method_of(model) is find("head")
    lora.eject(model)
    lora.inject(model, LORA)
    lora.eject(model)
    assert all(p.requires_grad for p in model.parameters())


def test_disabled_gives_the_base_of_a_trained_head():
    model = net()
    x = torch.ones(1, 4)
    before = model["classifier"](x)
    find("head").apply(model, PREPARED["head"])
    with torch.no_grad():
        model["classifier"].weight.add_(1)
    assert not torch.equal(model["classifier"](x), before)
    with lora.disabled(model):
        assert torch.equal(model["classifier"](x), before)


def test_a_head_is_not_saved_loaded_or_undone_while_its_original_is_in_place(tmp_path):
    model = net()
    find("head").apply(model, PREPARED["head"])
    path = lora.save_adapter(model, tmp_path)
    with lora.disabled(model):
        for change in (
            lambda: lora.save_adapter(model, tmp_path / "other"),
            lambda: lora.load_adapter(model, path),
            lambda: find("head").undo(model),
            lambda: find("head").fold(model),
        ):
            with pytest.raises(StateError, match="The adapters are disabled"):
                change()
    assert not (tmp_path / "other").exists()
    assert method_of(model) is find("head")


def test_a_bundle_of_an_unknown_method_is_told():
    with pytest.raises(FormatError, match=r"trained with the method 'heads'.*did you mean 'head'"):
        load(net(), lora.AdapterBundle(method="heads"), "file")


@pytest.mark.parametrize(
    ("modules", "problem"),
    [
        ("classifier", "it must be a list of names"),
        ([1], "it must be a list of names"),
        ([""], "it must be a list of names"),
    ],
)
def test_modules_to_save_is_checked(modules, problem):
    with pytest.raises(ConfigError, match=problem):
        MethodConfig(modules_to_save=modules)


def test_a_module_that_is_not_there_is_told_and_nothing_has_changed():
    model = net()
    with pytest.raises(lora.errors.TargetError, match=r"'clasifier' matches no module.*classifier"):
        find("head").apply(model, MethodConfig(modules_to_save=["clasifier", "body"]))
    assert method_of(model) is None
    assert all(p.requires_grad for p in model.parameters())
