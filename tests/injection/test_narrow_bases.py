"""What trains on a float16 or bfloat16 base is float32, and the base computes as before."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from tests.injection import zoo
from tests.injection.checks import assert_same, gradients, loss, outputs, q_and_v, snapshot, train
from tests.tolerances import EXACT, TOLERANCES

DTYPES = [torch.float16, torch.bfloat16]
TRAINED: dict[str, dict[str, Any]] = {
    "head": {"modules_to_save": ["classifier"]},
    "all biases": {"bias": "all"},
    "biases of adapted layers": {"bias": "lora_only"},
    "norms and embeddings": {"modules_to_save": ["LayerNorm", "word_embeddings"]},
}
CASE = zoo.CASES["roberta"]


@pytest.mark.parametrize("fields", TRAINED.values(), ids=TRAINED)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_heads_and_biases_of_a_narrow_base_train_in_float32(
    fields: dict[str, Any], dtype: torch.dtype
) -> None:
    model = CASE.build().to(dtype)
    before, y = snapshot(model), outputs(CASE, model)
    lora.inject(model, q_and_v(CASE, **fields))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert_close(outputs(CASE, model), y, **EXACT)
    train(model, CASE)
    assert lora.check_training(model).stuck == {}
    assert not torch.equal(outputs(CASE, model), y)
    with lora.disabled(model):
        assert_close(outputs(CASE, model), y, **EXACT)
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_a_gradient_scaler_unscales_the_gradients_of_a_float16_base() -> None:
    model = CASE.build().half()
    lora.inject(model, q_and_v(CASE, modules_to_save=["classifier"], bias="all"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with torch.autocast("cpu", torch.float16):
        scaler.scale(loss(CASE.output(model))).backward()
    scaled = gradients(model)
    scaler.unscale_(optimizer)
    assert_close(gradients(model), {name: grad / 4 for name, grad in scaled.items()})


def test_steps_smaller_than_a_narrow_dtype_resolves_add_up() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).bfloat16()
    lora.inject(model, lora.LoraConfig(r=1, target_modules=["0"], modules_to_save=["1"]))
    start = model[1].weight.detach().clone()
    with torch.no_grad():
        for _ in range(100):
            model[1]._parameters["weight"].add_(1e-4)
    assert_close(model.state_dict()["1.weight"], start.float() + 0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_file_of_a_narrow_base_has_the_float32_values(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = CASE.build().to(dtype)
    lora.inject(model, q_and_v(CASE, modules_to_save=["classifier"], bias="all"))
    train(model, CASE)
    lora.save_adapter(model, tmp_path)
    other = CASE.build().to(dtype)
    lora.load_adapter(other, tmp_path)
    assert_close(dict(other.named_parameters()), dict(model.named_parameters()), **EXACT)
    assert_close(outputs(CASE, other), outputs(CASE, model), **EXACT)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_folded_narrow_base_is_plain_and_narrow(dtype: torch.dtype) -> None:
    model = CASE.build().to(dtype)
    types = {name: type(module) for name, module in model.named_modules()}
    lora.inject(model, q_and_v(CASE, modules_to_save=["classifier"], bias="all"))
    train(model, CASE)
    expected = outputs(CASE, model)
    lora.fold(model)
    assert {name: type(module) for name, module in model.named_modules()} == types
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert_close(outputs(CASE, model), expected, **TOLERANCES[dtype])


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_learned_offset_is_folded_into_the_bias_as_it_trains(
    dtype: torch.dtype, bias: Any
) -> None:
    """Rounded once, from the float32 bias where that trains."""
    model = nn.Sequential(nn.Linear(4, 4)).to(dtype)
    fields = {"target_modules": ["0"], "variant": "lora_bias", "bias": bias}
    lora.inject(model, lora.LoraConfig(r=1, lora_alpha=2, **fields))
    bias_before = model[0]._parameters["bias"]
    with torch.no_grad():
        bias_before.fill_(0.0234)  # which the dtype rounds, and the sum then, otherwise
        model[0].lora_offset.fill_(1)
    lora.fold(model)
    assert type(model[0]) is nn.Linear
    assert_close(model[0].bias.detach(), (bias_before.detach().float() + 2).to(dtype), **EXACT)


def test_tied_copies_of_a_narrow_base_are_folded_into_one() -> None:
    model = zoo.gpt2().bfloat16()
    tied = ["wte", "lm_head"]
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["c_attn"], modules_to_save=tied))
    assert model.lm_head._parameters["weight"] is model.transformer.wte._parameters["weight"]
    lora.fold(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.lm_head.weight.dtype == torch.bfloat16


CASTS = {
    "float32": lambda model: model.float(),
    "float64": lambda model: model.double(),
    "bfloat16": lambda model: model.bfloat16(),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_a_narrow_base_can_be_cast_afterwards(cast: Any) -> None:
    model, base = CASE.build().half(), cast(CASE.build().half())
    lora.inject(model, q_and_v(CASE, modules_to_save=["classifier"], bias="all"))
    cast(model)
    assert_close(outputs(CASE, model), outputs(CASE, base), **EXACT)
    train(model, CASE)
    with lora.disabled(model):
        assert_close(outputs(CASE, model), outputs(CASE, base), **EXACT)
    outputs(CASE, model)
    lora.eject(model)
    assert_close(model.state_dict(), base.state_dict(), **EXACT)


def test_disabled_keeps_the_float32_values_of_a_narrow_base() -> None:
    model = CASE.build().half()
    lora.inject(model, q_and_v(CASE, modules_to_save=["classifier"]))
    train(model, CASE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with lora.disabled(model):
        pass
    assert_close(model.state_dict(), before, **EXACT)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}


def attention_layer() -> tuple[nn.Module, lora.LoraConfig]:
    """Its out_proj, linear1 and linear2 have a weight that is merged as it is read."""
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)).eval()
    return model, lora.LoraConfig(r=2, target_modules="all-linear", bias="all")


def classifier() -> tuple[nn.Module, lora.LoraConfig]:
    return zoo.sequential(), lora.LoraConfig(r=2, target_modules=["0"], modules_to_save=["3"])


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("made", [attention_layer, classifier])
def test_a_model_with_rounded_reads_can_be_copied(copied: Any, made: Any) -> None:
    model, config = made()
    x = torch.randn(2, 3, 8, dtype=torch.bfloat16)
    lora.inject(model.bfloat16(), config)
    other = copied(model)
    assert_close(other(x), model(x), **EXACT)
    for one in (model, other):
        lora.eject(one)
    assert_close(other(x), model(x), **EXACT)
    assert [type(m) for m in other.modules()] == [type(m) for m in model.modules()]


def test_a_replica_reads_rounded_values() -> None:
    """As torch.nn.parallel.replicate makes one: with tensors for parameters."""
    layer = nn.Linear(4, 4).bfloat16()
    model = nn.Sequential(nn.Linear(4, 4).bfloat16(), layer)
    lora.inject(model, lora.LoraConfig(r=1, target_modules=["0"], modules_to_save=["1"]))
    replica = layer._replicate_for_data_parallel()
    for name, parameter in layer.named_parameters():
        setattr(replica, name, parameter + 0)
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    assert_close(replica(x), layer(x), **EXACT)


def test_compiled_code_reads_rounded_values() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)).bfloat16()
    config = lora.LoraConfig(r=1, target_modules=["0"], modules_to_save=["1", "2"], bias="all")
    lora.inject(model, config)
    x = torch.randn(2, 4, dtype=torch.bfloat16)

    def grads(function: Any) -> dict[str, Tensor]:
        model.zero_grad()
        loss(function(x)).backward()
        return gradients(model)

    expected = grads(model)
    assert_close(grads(torch.compile(model, backend="eager", fullgraph=True)), expected, **EXACT)
