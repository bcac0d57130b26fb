"""A fused layer, and a checkpoint of it, in parts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers.pytorch_utils import Conv1D

import lorakit as lora
from lorakit.errors import ConfigError, TargetError
from lorakit.surgery import split_linear, split_linear_state_dict
from tests.tolerances import EXACT, TOLERANCES

PARTS = ["q", "k", "v"]


class Block(nn.Module):
    def __init__(self, fused: nn.Module) -> None:
        super().__init__()
        self.qkv = fused
        self.out = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.qkv(x))


def blocks(kind: str = "linear", bias: bool = True) -> nn.Sequential:
    made = {"linear": lambda: nn.Linear(8, 12, bias=bias), "Conv1D": lambda: Conv1D(12, 8)}[kind]
    return nn.Sequential(Block(made()), Block(made()))


@pytest.mark.parametrize("kind", ["linear", "Conv1D"])
@pytest.mark.parametrize("sizes", [None, [6, 2, 4], (1, 1, 10)])
def test_split_computes_the_same_in_parts_of_any_size(kind, sizes):
    model, x = blocks(kind), torch.randn(2, 5, 8)
    expected = model(x)
    assert split_linear(model, "qkv", PARTS, sizes) == ["0.qkv", "1.qkv"]
    assert_close(model(x), expected, **TOLERANCES[torch.float32])
    for block in model:
        children = dict(block.qkv.named_children())
        assert list(children) == PARTS
        assert {type(child) for child in children.values()} == {nn.Linear}
        heights = [child.out_features for child in children.values()]
        assert heights == list(sizes or [4, 4, 4])


@pytest.mark.parametrize("kind", ["linear", "Conv1D"])
def test_each_part_holds_its_rows_bit_for_bit(kind):
    model = blocks(kind)
    weight = model[0].qkv.weight.detach().clone()
    weight = weight.t() if kind == "Conv1D" else weight
    bias = model[0].qkv.bias.detach().clone()
    split_linear(model, "qkv", PARTS, [6, 2, 4])
    for name, start, stop in (("q", 0, 6), ("k", 6, 8), ("v", 8, 12)):
        part = model[0].qkv.get_submodule(name)
        assert_close(part.weight.detach(), weight[start:stop].contiguous(), **EXACT)
        assert_close(part.bias.detach(), bias[start:stop], **EXACT)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_parts_keep_type_bias_mode_and_what_trains(bias, dtype, trainable, training):
    model = blocks(bias=bias).to(dtype).requires_grad_(trainable).train(training)
    split_linear(model, "qkv", PARTS)
    parts = model[0].qkv
    assert parts.training == training
    assert {p.training for p in parts.children()} == {training}
    assert [name for name, _ in parts.q.named_parameters()] == ["weight", "bias"][: 1 + bias]
    assert {(p.dtype, p.requires_grad) for p in parts.parameters()} == {(dtype, trainable)}


def test_nothing_is_shared_with_the_original_or_between_parts():
    model = blocks()
    fused = model[0].qkv
    before = copy.deepcopy(fused.state_dict())
    split_linear(model, "qkv", PARTS)
    parameters = [*fused.parameters(), *model[0].qkv.parameters()]
    storages = {p.untyped_storage().data_ptr() for p in parameters}
    assert len(storages) == len(parameters)
    assert all(p.is_contiguous() for p in parameters)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for name, value in fused.state_dict().items():
        assert_close(value, before[name], **EXACT)


@pytest.mark.parametrize(("kind", "transposed"), [("linear", False), ("Conv1D", True)])
@pytest.mark.parametrize("sizes", [None, [6, 2, 4]])
def test_a_checkpoint_of_the_fused_model_loads_through_the_twin(kind, transposed, sizes):
    source, model, x = blocks(kind), blocks(kind), torch.randn(3, 8)
    split_linear(model, "qkv", PARTS, sizes)
    state = split_linear_state_dict(
        source.state_dict(), "qkv", PARTS, sizes, fan_in_fan_out=transposed
    )
    assert state.keys() == model.state_dict().keys()
    model.load_state_dict(state)
    assert_close(model(x), source(x), **TOLERANCES[torch.float32])
    split_linear(source, "qkv", PARTS, sizes)
    for name, value in source.state_dict().items():
        assert_close(state[name], value, **EXACT)


def test_the_twin_copies_what_it_splits_and_passes_the_rest_on():
    source = blocks().state_dict() | {"0.qkv.scale": torch.ones(1), "0.xqkv.weight": torch.ones(2)}
    state = split_linear_state_dict(source, "qkv", PARTS)
    assert state["0.qkv.scale"] is source["0.qkv.scale"]
    assert state["0.xqkv.weight"] is source["0.xqkv.weight"]
    assert state["0.out.weight"] is source["0.out.weight"]
    before = source["0.qkv.weight"].clone()
    state["0.qkv.q.weight"].zero_()
    assert_close(source["0.qkv.weight"], before, **EXACT)
    assert state["0.qkv.q.weight"].untyped_storage().nbytes() == 4 * 8 * 4


def test_a_real_gpt2_computes_the_same_after_splitting():
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(n_layer=2, n_embd=16, n_head=2, n_positions=16, vocab_size=40)
    model = GPT2Model(config).eval()
    source, ids = copy.deepcopy(model), torch.randint(40, (2, 7))
    assert split_linear(model, "c_attn", PARTS) == ["h.0.attn.c_attn", "h.1.attn.c_attn"]
    with torch.no_grad():
        expected = source(ids).last_hidden_state
        assert_close(model(ids).last_hidden_state, expected, **TOLERANCES[torch.float32])
    model.load_state_dict(
        split_linear_state_dict(source.state_dict(), "c_attn", PARTS, fan_in_fan_out=True)
    )
    report = lora.inject(model, lora.LoraConfig(r=2, target_modules=["c_attn.q", "c_attn.v"]))
    assert len(report.layers) == 4


@pytest.mark.parametrize(
    ("name", "expected"), [("qkv", ["0.qkv", "1.qkv"]), ("1.qkv", ["1.qkv"]), ("0", ["0"])]
)
def test_names_match_whole_or_as_dotted_suffix(name, expected):
    model = nn.Sequential(nn.Linear(8, 12)) if name == "0" else blocks()
    assert split_linear(model, name, PARTS) == expected


def test_a_module_under_two_names_is_split_once_and_stays_shared():
    model = blocks()
    model[1].qkv = model[0].qkv
    assert split_linear(model, "qkv", PARTS) == ["0.qkv", "1.qkv"]
    assert model[1].qkv is model[0].qkv
    assert isinstance(model[0].qkv.v, nn.Linear)


@pytest.mark.parametrize("name", ["qvk", "kv", "", "0.qkv.q"])
def test_a_name_that_nothing_has_is_an_error(name):
    model = blocks()
    with pytest.raises(TargetError, match="The model has no module named") as caught:
        split_linear(model, name, PARTS)
    assert ("did you mean" in str(caught.value)) == (name == "0.qkv.q")
    with pytest.raises(TargetError, match="The state dict has no weight or bias of a module named"):
        split_linear_state_dict(model.state_dict(), name, PARTS)


def test_everything_that_is_not_linear_is_listed_and_nothing_is_split():
    model = nn.ModuleDict(
        {"a": nn.ModuleDict({"x": nn.Linear(8, 12)}), "b": nn.ModuleDict({"x": nn.Embedding(3, 3)})}
    )
    model["c"] = nn.ModuleDict({"x": lora.Linear(8, 12, r=2)})
    before = list(model.modules())
    with pytest.raises(TargetError) as caught:
        split_linear(model, "x", PARTS)
    assert len(caught.value.problems) == 2
    assert "b.x has type Embedding" in caught.value.problems[0]
    assert "c.x is adapted" in caught.value.problems[1]
    assert list(model.modules()) == before


@pytest.mark.parametrize("kind", ["linear", "Conv1D"])
def test_a_layer_that_is_adapted_or_trained_is_split_once_it_is_plain_again(kind):
    model = blocks(kind)
    config = lora.LoraConfig(r=2, target_modules=["0.qkv"], modules_to_save=["1.qkv"])
    lora.inject(model, config)
    with pytest.raises(TargetError) as caught:
        split_linear(model, "qkv", PARTS)
    why = "is adapted or trained in full; call lorakit.eject or lorakit.fold first"
    assert list(caught.value.problems) == [f"0.qkv {why}", f"1.qkv {why}"]
    lora.fold(model)
    assert split_linear(model, "qkv", PARTS) == ["0.qkv", "1.qkv"]


def test_a_layer_of_an_adapter_set_is_split_once_that_is_closed():
    model = blocks()
    adapters = lora.AdapterSet(model)
    adapters.add("one", lora.LoraConfig(r=2, target_modules=["0.qkv"]))
    with pytest.raises(TargetError) as caught:
        split_linear(model, "qkv", PARTS)
    assert list(caught.value.problems) == ["0.qkv is in an AdapterSet; call its close() first"]
    adapters.close()
    assert split_linear(model, "qkv", PARTS) == ["0.qkv", "1.qkv"]


@pytest.mark.parametrize(
    ("into", "sizes", "problems"),
    [
        (PARTS, [4, 4], 1),
        (PARTS, [4, 4, 5], 1),
        (PARTS, [-4, 8, 8], 1),
        (PARTS, [0, 6, 6], 1),
        (["a", "b", "c", "d", "e"], None, 1),
        (["q", "q", "v"], None, 1),
        (["q.w", "k", "v"], None, 1),
        (["", "forward", "training"], None, 3),
        ([], None, 2),
        (["q", "q", "a.b"], [1, 2, 3], 3),
    ],
)
def test_names_and_sizes_that_cannot_be_used_are_all_listed(into, sizes, problems):
    model = blocks()
    before = list(model.modules())
    with pytest.raises(ConfigError, match="12 outputs") as caught:
        split_linear(model, "qkv", into, sizes)
    assert len(caught.value.problems) == problems
    assert list(model.modules()) == before
    with pytest.raises(ConfigError) as twin:
        split_linear_state_dict(model.state_dict(), "qkv", into, sizes)
    assert twin.value.problems == caught.value.problems
