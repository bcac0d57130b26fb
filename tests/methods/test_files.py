"""What full fine-tuning and the head save loads strictly: all of it, in its place, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.errors import FormatError, MismatchError, StateError
from lorakit.methods import METHODS, MethodConfig, find, method_of
from lorakit.methods.adapter_drop import AdapterDropConfig
from lorakit.methods.last_layers import LastLayersConfig
from tests.tolerances import EXACT

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
CONFIGS = {
    "full": find("full").default_config(),
    "head": MethodConfig(modules_to_save=["classifier"]),
}
OTHERS = {
    "lora": lora.LoraConfig(r=2),
    "last_layers": LastLayersConfig(count=1),
    "adapter_drop": AdapterDropConfig(dropped=0),
}
BOTH = pytest.mark.parametrize("name", CONFIGS)


def bert(labels: int = 2, seed: int = 0) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(**SMALL, num_labels=labels)).eval()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(name: str, path: Path, labels: int = 2) -> tuple[nn.Module, Path]:
    """A model whose trained values differ from the base's, and the directory with them."""
    model = bert(labels)
    METHODS[name].apply(model, CONFIGS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) if parameter.requires_grad else 0)
    return model, lora.save_adapter(model, path)


def assert_refused(model: nn.Module, path: Path, *problems: str) -> None:
    """One error with all of these; the model is as it was."""
    before, method = state(model), method_of(model)
    objects = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(model, path)
    for problem in problems:
        assert problem in str(caught.value)
    torch.testing.assert_close(state(model), before, **EXACT)
    assert {name: (id(p), p.requires_grad) for name, p in model.named_parameters()} == objects
    assert method_of(model) is method


def changed(path: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """The file again, after `change` to its tensors."""
    bundle = read(path)
    tensors = dict(bundle.trained)
    change(tensors)
    return write(replace(bundle, trained=tensors), path)


@BOTH
def test_what_was_trained_loads_onto_the_plain_base(name, tmp_path):
    model, path = trained(name, tmp_path)
    assert [file.name for file in path.iterdir()] == ["trained.safetensors"]
    fresh = bert()
    report = lora.load_adapter(fresh, path)
    assert report.base_verified is (True if name == "head" else None)
    assert report.format == "lorakit"
    torch.testing.assert_close(state(fresh), state(model), **EXACT)
    assert method_of(fresh) is METHODS[name]
    flags = {n for n, p in fresh.named_parameters() if p.requires_grad}
    assert flags == {n for n, p in model.named_parameters() if p.requires_grad}


@BOTH
def test_a_file_says_what_it_is(name, tmp_path):
    _, path = trained(name, tmp_path)
    bundle = read(path)
    assert (bundle.method, bundle.num_labels, bundle.task_type) == (name, 2, "SEQ_CLS")
    kind = BertForSequenceClassification
    assert bundle.base_class == (kind.__module__, kind.__name__)
    expected = {"full": {}, "head": {"modules_to_save": ["classifier"]}}
    assert bundle.method_config == expected[name]
    assert bool(bundle.fingerprint) is (name == "head")


@BOTH
def test_loading_over_what_trains_keeps_the_parameters_that_an_optimizer_holds(name, tmp_path):
    _, path = trained(name, tmp_path)
    model = bert()
    METHODS[name].apply(model, CONFIGS[name])
    before = dict(model.named_parameters())
    lora.load_adapter(model, path)
    assert all(parameter is before[n] for n, parameter in model.named_parameters())
    stored = read(path).trained["classifier.weight"]
    torch.testing.assert_close(model.state_dict()["classifier.weight"], stored, **EXACT)


@BOTH
def test_a_head_of_one_label_is_not_spread_over_three(name, tmp_path):
    _, path = trained(name, tmp_path, labels=1)
    problem = (
        "classifier.weight has a size mismatch: expected (3, 16), got (1, 16); load the base with"
    )
    assert_refused(
        bert(3), path, problem, "classifier.bias has a size mismatch: expected (3,), got (1,)"
    )
    prepared = bert(3)
    METHODS[name].apply(prepared, CONFIGS[name])
    assert_refused(prepared, path, problem)


@BOTH
def test_a_head_of_another_name_is_told_in_both_directions(name, tmp_path):
    _, path = trained(name, tmp_path)
    other = bert()
    other.score = other._modules.pop("classifier")
    missing = {
        "full": "score.weight is trained in this model, but missing from the file",
        "head": "method: head needs a head",
    }
    lost = [
        f"classifier.{leaf} is unexpected: the model has no such parameter"
        for leaf in ("weight", "bias")
    ]
    assert_refused(other, path, *lost, missing[name])


@BOTH
def test_a_missing_tensor_is_told(name, tmp_path):
    _, path = trained(name, tmp_path)
    changed(path, lambda tensors: tensors.pop("classifier.bias"))
    assert_refused(bert(), path, "classifier.bias")


@BOTH
def test_a_tensor_too_many_is_told(name, tmp_path):
    _, path = trained(name, tmp_path)
    changed(path, lambda tensors: tensors.update({"extra.weight": torch.ones(2)}))
    assert_refused(bert(), path, "extra.weight is unexpected: the model has no such parameter")


def test_a_tensor_that_the_settings_do_not_train_is_told(tmp_path):
    _, path = trained("head", tmp_path)
    name = "bert.pooler.dense.bias"
    changed(path, lambda tensors: tensors.update({name: torch.ones(16)}))
    assert_refused(bert(), path, f"{name} is unexpected: head does not train it with the file's")


def test_a_head_of_another_base_is_refused_unless_it_is_meant(tmp_path):
    _, path = trained("head", tmp_path)
    assert_refused(bert(seed=1), path, "the base weights differ from those")
    other = bert(seed=1)
    assert lora.load_adapter(other, path, check_base=False).base_verified is False


def test_full_fine_tuning_replaces_every_weight_of_any_base(tmp_path):
    model, path = trained("full", tmp_path)
    other = bert(seed=1)
    lora.load_adapter(other, path)
    torch.testing.assert_close(state(other), state(model), **EXACT)


def test_a_file_of_another_method_is_refused(tmp_path):
    _, head = trained("head", tmp_path / "head")
    _, full = trained("full", tmp_path / "full")
    adapted = bert()
    lora.inject(adapted, lora.LoraConfig(r=2))
    pair = lora.save_adapter(adapted, tmp_path / "lora")
    for path, made_by in ((head, "head"), (full, "full"), (pair, "lora")):
        for name in METHODS:
            model = bert()
            config = {**CONFIGS, **OTHERS}.get(name, METHODS[name].config_type())
            METHODS[name].apply(model, config)
            if name != made_by:
                assert_refused(
                    model, path, f"trained with the method {made_by}", f"prepared for {name}"
                )
        other = METHODS["full" if made_by == "head" else "head"]
        with pytest.raises(MismatchError, match=f"trained with the method {made_by}, not with"):
            other.load(bert(), read(path), "file")


def test_a_model_of_another_kind_is_refused(tmp_path):
    _, path = trained("full", tmp_path)
    torch.manual_seed(0)
    other = BertForTokenClassification(BertConfig(**SMALL))
    assert_refused(
        other, path, "bert.pooler.dense.bias", "is unexpected: the model has no such parameter"
    )


def test_buffers_are_saved_with_what_trains(tmp_path):
    def net() -> nn.Module:
        return nn.ModuleDict({"body": nn.Linear(3, 3), "head": nn.BatchNorm1d(3)})

    for name in CONFIGS:
        model, fresh = net(), net()
        METHODS[name].apply(model, MethodConfig(["head"]) if name == "head" else CONFIGS[name])
        model["head"](model["body"](torch.randn(5, 3)))
        fresh.load_state_dict(net().state_dict() | {"body.weight": model["body"].weight.detach()})
        path = lora.save_adapter(model, tmp_path / name)
        lora.load_adapter(fresh, path, check_base=False)
        assert torch.equal(fresh["head"].running_mean, model["head"].running_mean)
        assert fresh["head"].num_batches_tracked == 1


def test_tied_weights_are_saved_once(tmp_path):
    def net() -> nn.Module:
        torch.manual_seed(0)
        model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "lm_head": nn.Linear(3, 5, bias=False)})
        model["lm_head"].weight = model["embed"].weight
        return model

    model = net()
    find("full").apply(model, CONFIGS["full"])
    path = lora.save_adapter(model, tmp_path / "full")
    assert list(read(path).trained) == ["embed.weight"]
    fresh = net()
    lora.load_adapter(fresh, path)
    assert fresh["lm_head"].weight is fresh["embed"].weight
    head = net()
    find("head").apply(head, MethodConfig(["lm_head"]))
    assert list(find("head").bundle(head).trained) == ["lm_head.weight"]
    lora.load_adapter(net(), lora.save_adapter(head, tmp_path / "head"))
    both = net()
    find("head").apply(both, MethodConfig(["lm_head", "embed"]))
    assert both["lm_head"].weight is both["embed"].weight
    lora.load_adapter(net(), lora.save_adapter(both, tmp_path / "both"))


@BOTH
def test_folding_leaves_a_plain_model(name, tmp_path):
    model, _ = trained(name, tmp_path)
    expected = state(model)
    METHODS[name].fold(model)
    assert method_of(model) is None
    torch.testing.assert_close(state(model), expected, **EXACT)
    with pytest.raises(StateError, match="is not prepared for the method"):
        METHODS[name].fold(model)


def test_a_missing_tensor_does_not_pass_for_another_base(tmp_path):
    _, path = trained("head", tmp_path)
    changed(path, lambda tensors: tensors.pop("classifier.bias"))
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(bert(), path)
    assert len(caught.value.problems) == 1


def test_settings_that_the_method_does_not_know_are_told(tmp_path):
    _, path = trained("head", tmp_path)
    write(replace(read(path), method_config={"modules": ["classifier"]}), path)
    with pytest.raises(FormatError, match="settings that the method head does not support"):
        lora.load_adapter(bert(), path)


def test_inject_on_a_prepared_head_is_refused_and_the_base_stays(tmp_path: Path) -> None:
    model, base = bert(), bert()
    find("head").apply(model, CONFIGS["head"])
    config = lora.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    with pytest.raises(StateError, match=r"already trains 2 tensors in full \(classifier\.weight"):
        lora.inject(model, config)
    lora.eject(model)
    for name, tensor in base.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, **EXACT)
