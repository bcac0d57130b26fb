"""A plan beside a real step, counted by torch's own allocator events."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn
from torch.optim import Adafactor
from transformers import BertConfig, GPT2Config, LlamaConfig, MixtralConfig, T5Config

import lorakit as lora
from lorakit.errors import ConfigError, StateError
from lorakit.planner.bases import model_on_meta
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.planning import plan_step
from lorakit.planner.settings import StepSettings
from tests.planner.measured import measured_peak

SMALL = {
    "bert": BertConfig(
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        vocab_size=1000,
    ),
    "llama": LlamaConfig(
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        vocab_size=1000,
    ),
    "gpt2": GPT2Config(n_embd=128, n_layer=3, n_head=4, vocab_size=1000),
    "t5": T5Config(
        d_model=128,
        num_layers=2,
        num_heads=4,
        d_kv=32,
        d_ff=256,
        vocab_size=1000,
        decoder_start_token_id=0,
    ),
}
LORA = lora.LoraConfig(r=8, target_modules="all-linear", lora_dropout=0.1)
CELLS = list(
    product(SMALL, ("lora", "full", "houlsby", "prefix_layer"), ("fp32", "bf16"), (False, True))
)


def over_measured(name: str, settings: StepSettings) -> float:
    meta = model_on_meta(SMALL[name])
    planned = plan_step(meta, settings).peak_bytes
    return planned / measured_peak(type(meta)(SMALL[name]), settings)


@pytest.mark.parametrize(("name", "method", "dtype", "checkpointing"), CELLS[::5])
def test_peak_is_a_real_steps(name, method, dtype, checkpointing):
    config = LORA if method == "lora" else None
    settings = StepSettings(method, config, 8, 64, dtype, checkpointing=checkpointing)
    assert over_measured(name, settings) == pytest.approx(1, abs=0.05)


MISSES = {
    ("bert", "lora", "bf16", True, 16, 32): "5.5% too low: half a MB inside torch.ge",
}
"""The adapter's dropout draws its mask by `torch.ge` of 16-bit integers into bfloat16. On a CPU
torch compares into a copy in their type, which lives inside that one operation and is no tensor of
the step; a GPU converts in the kernel."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method", "dtype", "checkpointing"), CELLS)
@pytest.mark.parametrize(("batch", "length"), [(2, 128), (16, 32)])
def test_peak_is_a_real_steps_in_every_cell(
    name, method, dtype, checkpointing, batch, length, request
):
    if missed := MISSES.get((name, method, dtype, checkpointing, batch, length)):
        request.applymarker(pytest.mark.xfail(reason=missed, strict=True))
    config = LORA if method == "lora" else None
    settings = StepSettings(method, config, batch, length, dtype, checkpointing=checkpointing)
    assert over_measured(name, settings) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("method", "dtype"), [("full", "fp32"), ("lora", "bf16")])
def test_peak_is_a_real_steps_of_experts(method, dtype):
    config = MixtralConfig(**SMALL["llama"].to_diff_dict(), num_local_experts=4)
    settings = StepSettings(method, LORA if method == "lora" else None, 4, 64, dtype)
    meta = model_on_meta(config)
    measured = measured_peak(type(meta)(config), settings)
    assert plan_step(meta, settings).peak_bytes == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_peak_is_a_real_steps_of_adapted_experts(checkpointing):
    """Whose weights are not kept for the backward, which forms them again."""
    config = MixtralConfig(**SMALL["llama"].to_diff_dict(), num_local_experts=4)
    adapted = lora.LoraConfig(
        r=4, target_modules=["q_proj"], target_parameters=["gate_up_proj", "down_proj"]
    )
    settings = StepSettings("lora", adapted, 4, 64, "bf16", checkpointing=checkpointing)
    meta = model_on_meta(config)
    measured = measured_peak(type(meta)(config), settings)
    assert plan_step(meta, settings).peak_bytes == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_second_gradient_of_a_tied_weight_is_added_as_autograd_does(dtype, monkeypatch):
    """In bf16 in place, in fp32 not: there the first one is a view."""
    monkeypatch.setitem(SMALL, "tied", GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=20000))
    settings = StepSettings("full", None, 2, 16, dtype)
    assert over_measured("tied", settings) == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_unfused", "sgd", "momentum", "rmsprop"])
def test_peak_is_a_real_steps_with_every_optimizer(optimizer):
    settings = StepSettings("full", None, 2, 16, "fp32", optimizer)
    assert over_measured("bert", settings) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("name", "method"), [("bert", "lora"), ("llama", "full"), ("t5", "lora")])
def test_peak_is_a_real_steps_with_reentrant_checkpointing(name, method):
    config = LORA if method == "lora" else None
    settings = StepSettings(method, config, 8, 64, "fp32", checkpointing="reentrant")
    assert over_measured(name, settings) == pytest.approx(1, abs=0.05)


def test_checkpointing_is_of_the_non_reentrant_kind():
    plans = [
        lora.plan(SMALL["llama"], "full", checkpointing=kind)
        for kind in (True, "non_reentrant", False)
    ]
    assert plans[0].bytes_by == plans[1].bytes_by
    assert plans[0].peak_bytes < plans[2].peak_bytes


@pytest.mark.parametrize(("batch", "budget", "rows"), [(8, 512, 8), (8, 200, 3), (8, 10, 1)])
def test_micro_batch_is_the_largest_of_a_token_budget(batch, budget, rows):
    settings = StepSettings("full", None, batch, 64, "fp32", token_budget=budget)
    assert settings.rows == rows
    assert over_measured("bert", settings) == pytest.approx(1, abs=0.05)


def test_gradients_of_other_micro_batches_are_there():
    whole = lora.plan(SMALL["bert"], "full", batch=4, length=64, dtype="fp32").peak_bytes
    several = lora.plan(
        SMALL["bert"], "full", batch=12, length=64, dtype="fp32", token_budget=256
    ).peak_bytes
    assert several > 1.1 * whole


def test_bytes_by_add_up_to_the_peak():
    plan = lora.plan(SMALL["llama"], "full", dtype="fp32")
    weights = 4 * sum(p.numel() for p in model_on_meta(SMALL["llama"]).parameters())
    assert sum(plan.bytes_by.values()) == plan.peak_bytes
    assert plan.bytes_by["trained weights"] == weights
    assert 2 * weights <= plan.bytes_by["optimizer state"] <= 2.01 * weights


def test_state_of_8_bit_adam_is_two_bytes_a_parameter():
    plan = lora.plan(SMALL["llama"], "full", dtype="fp32", optimizer="adamw_8bit")
    parameters = plan.trainable_parameters
    assert 2 * parameters < plan.bytes_by["optimizer state"] < 2.1 * parameters


def test_state_of_adafactor_is_that_of_torchs():
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6))
    planned, real = OPTIMIZERS["adafactor"](model.parameters()), Adafactor(model.parameters())
    model(torch.ones(2, 6)).sum().backward()
    planned.step()
    real.step()
    for parameter in model.parameters():
        sizes = sorted(t.numel() for t in planned.state[parameter].values())
        kept = real.state[parameter]
        found = [kept[name] for name in ("row_var", "col_var", "variance") if name in kept]
        assert sizes == sorted(tensor.numel() for tensor in found)


def test_checkpoint_bytes_are_those_of_the_saved_tensors(tmp_path):
    model = type(model_on_meta(SMALL["llama"]))(SMALL["llama"])
    plan = lora.plan(model, "lora", LORA)
    lora.inject(model, LORA)
    lora.save_adapter(model, tmp_path)
    file = (tmp_path / "adapter_model.safetensors").stat().st_size
    assert plan.checkpoint_bytes <= file <= plan.checkpoint_bytes + 50_000
    assert plan.checkpoint_bytes == 4 * plan.trainable_parameters


def test_plan_leaves_a_model_as_it_is():
    model = type(model_on_meta(SMALL["bert"]))(SMALL["bert"])
    before = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    lora.plan(model, "houlsby")
    assert {name: (id(p), p.requires_grad) for name, p in model.named_parameters()} == before
    assert type(next(model.parameters())) is nn.Parameter


def test_plan_beside_a_model_with_merged_weights():
    model = type(model_on_meta(SMALL["llama"]))(SMALL["llama"])
    lora.inject(model.eval(), LORA)
    with lora.merged(model):
        assert lora.plan(SMALL["llama"], "lora", LORA, length=16).peak_bytes > 0


def test_plan_keeps_ties():
    tied = SMALL["gpt2"]
    plan = lora.plan(tied, "full", dtype="fp32")
    assert plan.trainable_parameters == sum(p.numel() for p in model_on_meta(tied).parameters())


def test_curve_holds_the_peak_and_modules_their_share():
    plan = lora.plan(SMALL["llama"], "lora", LORA)
    assert max(point.total for point in plan.memory.curve) == plan.peak_bytes
    modules = plan.memory.modules
    assert sum(sum(of.values()) for of in modules.values()) == plan.peak_bytes
    assert {point.phase for point in plan.memory.curve} >= {"forward", "backward"}


def test_weights_and_state_are_there_at_the_end_of_the_curve():
    plan = lora.plan(SMALL["llama"], "full", batch=2, length=16)
    last = plan.memory.curve[-1].bytes_by
    for kind in ("base weights", "trained weights", "optimizer state"):
        assert last[kind] == plan.bytes_by[kind]


def test_impossible_settings_are_listed_at_once():
    with pytest.raises(ConfigError, match="batch is 0") as error:
        lora.plan(
            SMALL["llama"],
            batch=0,
            length=0,
            optimizer="adam",
            checkpointing="twice",
            token_budget=0,
            quantised="nf3",
        )
    for part in ("length is 0", "optimizer is 'adam'", "checkpointing is 'twice'"):
        assert part in str(error.value)
    assert "token_budget is 0" in str(error.value)
    assert "quantised is 'nf3'; it must be one of int8, nf4, nf4_double" in str(error.value)


def test_quantised_base_on_several_devices_is_refused():
    with pytest.raises(ConfigError, match="quantised is nf4, and devices is 2"):
        lora.plan(SMALL["llama"], quantised="nf4", devices=2)


def test_config_of_another_method_is_refused():
    with pytest.raises(ConfigError, match="houlsby takes a"):
        lora.plan(SMALL["llama"], "houlsby", LORA)


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(ConfigError, match="512 positions"):
        lora.plan(SMALL["bert"], length=513)


def test_prepared_model_is_refused():
    model = type(model_on_meta(SMALL["bert"]))(SMALL["bert"])
    lora.inject(model, lora.LoraConfig(target_modules=["query"]))
    with pytest.raises(StateError):
        lora.plan(model, "lora", LORA)


@pytest.mark.slow
def test_seven_billion_parameters_are_planned_without_memory():
    config = LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, intermediate_size=11008
    )
    plan = lora.plan(config, "lora", LORA, batch=4, length=1024)
    assert plan.bytes_by["base weights"] == pytest.approx(2 * 6_738_415_616, rel=0.01)
    assert plan.peak_bytes > 20e9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": "8"}, "batch is '8'; it must be a whole number"),
        ({"batch": 2.5}, "batch is 2.5; it must be a whole number"),
        ({"batch": True}, "batch is True; it must be a whole number"),
        ({"length": 8.0}, "length is 8.0; it must be a whole number"),
        ({"devices": "2"}, "devices is '2'; it must be a whole number"),
        ({"token_budget": "64"}, "token_budget is '64'; it must be a whole number"),
        ({"optimizer": ["sgd"]}, r"optimizer is \['sgd'\]; it must be one of"),
        ({"quantised": ["nf4"]}, r"quantised is \['nf4'\]; it must be one of"),
        ({"checkpointing": ["reentrant"]}, "checkpointing is .*; it must be True, False or"),
    ],
)
def test_settings_of_other_types_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        lora.plan(SMALL["llama"], **settings)
