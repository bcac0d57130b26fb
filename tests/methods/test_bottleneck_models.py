"""What a model with bottleneck adapters can do: be copied, compiled, checkpointed, replicated."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
)

import lorakit as lora
from lorakit.injection.inspection.health import (
    check_training,
    mark_training_start,
    recording_calls,
)
from lorakit.methods import find
from tests.layers.test_replicas import replica
from tests.methods.bottlenecks import (
    EACH,
    GPT2,
    HEAD,
    bert,
    config_of,
    randomise,
    tokens,
)
from tests.tolerances import EXACT, TOLERANCES


@EACH
def test_a_copy_and_a_pickle_compute_the_same(name):
    model, batch = bert().eval(), tokens()
    find(name).apply(model, config_of(name), HEAD)
    randomise(model)
    trained = model(**batch).logits
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(copied(**batch).logits, trained, **EXACT)
        with lora.disabled(copied):
            assert not torch.equal(copied(**batch).logits, trained)
        assert_close(model(**batch).logits, trained, **EXACT)


@EACH
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(name, reentrant):
    batch, gradients = tokens(), []
    for checkpointed in (False, True):
        model = bert().train()
        find(name).apply(model, config_of(name), HEAD)
        randomise(model)
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model(**batch).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for leaf, gradient in gradients[0].items():
        assert_close(gradients[1][leaf], gradient, **EXACT)


@EACH
@pytest.mark.parametrize("autocast", [False, True])
def test_adapters_are_float32_and_compute_in_the_dtype_of_the_base(name, autocast):
    model = bert() if autocast else bert().bfloat16()
    find(name).apply(model, config_of(name), HEAD)
    randomise(model)
    seen = []
    adapters = [m for n, m in model.named_modules() if n.endswith("adapter")]
    adapters[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        model(**tokens()).loss.backward()
    assert seen == [torch.bfloat16]
    for adapter in adapters:
        for parameter in adapter.parameters():
            assert parameter.dtype == parameter.grad.dtype == torch.float32
            assert parameter.grad.any()


@EACH
def test_a_compiled_model_has_no_graph_breaks(name):
    model, batch = bert().eval(), tokens()
    find(name).apply(model, config_of(name), HEAD)
    randomise(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_close(compiled(**batch).logits, model(**batch).logits, **TOLERANCES[torch.float32])
    with lora.disabled(model):
        assert_close(compiled(**batch).logits, model(**batch).logits, **TOLERANCES[torch.float32])
    torch.compiler.reset()


class Reading(nn.Module):
    """A block that computes with the weight of its last layer, which it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.ln_1 = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return x + functional.linear(self.up(self.ln_1(x)).relu(), self.down.weight)


def test_an_adapter_whose_module_is_read_and_never_called_is_stuck():
    model = nn.Sequential(nn.ModuleList([Reading()]), nn.Linear(8, 2))
    find("houlsby").apply(
        model, config_of("houlsby", attention_output="attn", mlp_output="down"), ["1"]
    )
    randomise(model)
    mark_training_start(model)
    with recording_calls(model) as called:
        model[1](model[0][0](torch.ones(2, 3, 8))).sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    stuck = check_training(model, frozenset(called)).stuck
    assert {*stuck} == {
        f"0.0.down.adapter.{leaf}" for leaf in ("down", "down_bias", "up", "up_bias")
    }
    reason = "0.0.down was never called, though its Reading ran, which may read its weight"
    assert set(stuck.values()) == {reason}
    with recording_calls(model) as called:  # nor is the block
        model[1](torch.ones(2, 3, 8)).sum().backward()
    assert not check_training(model, frozenset(called)).stuck


@EACH
def test_a_replica_of_data_parallel_computes_the_same_and_so_when_disabled(name):
    model, batch = bert().eval(), tokens()
    ids = batch["input_ids"]
    find(name).apply(model, config_of(name), HEAD)
    randomise(model)
    trained = model(ids).logits
    assert_close(replica(model)(ids).logits, trained, **EXACT)
    with lora.disabled(model):
        base = model(ids).logits
        copied = replica(model)
    assert not torch.equal(base, trained)
    assert_close(copied(ids).logits, base, **EXACT)  # it runs in a thread that is not in the block


@EACH
def test_generation_with_a_cache_gives_what_it_gives_without(name):
    model = AutoModelForCausalLM.from_config(GPT2).eval()
    find(name).apply(model, config_of(name))
    randomise(model)
    ids = tokens()["input_ids"]
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    cached, whole = (model.generate(ids, use_cache=flag, **options) for flag in (True, False))
    assert torch.equal(cached, whole)
