"""Each kind of parallelism on small models, with every number written out."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import GPT2Config, MixtralConfig, RobertaConfig, XLNetConfig

import lorakit as lora
from lorakit.errors import ConfigError
from lorakit.planner.bases import model_on_meta
from lorakit.planner.devices.ddp import ddp
from lorakit.planner.devices.division import Sharing
from lorakit.planner.devices.fsdp import fsdp
from lorakit.planner.devices.tp import tp
from lorakit.planner.recording import GRADIENTS, Block
from lorakit.planner.timeline import Point
from tests.planner.devices.models import LORA, SMALL

GPT2 = GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=333, n_positions=32)
ROBERTA = RobertaConfig(
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    vocab_size=333,
    max_position_embeddings=34,
    type_vocab_size=1,
)
MIXTRAL = MixtralConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    intermediate_size=32,
    num_local_experts=4,
    vocab_size=8,
)


def kept(division, model: nn.Module) -> int:
    """The parameters of one device."""
    shapes = (division.local_shape(name, p) for name, p in model.named_parameters())
    total = 0
    for shape in shapes:
        size = 1
        for side in shape:
            size *= side
        total += size
    return total


def communication(division, phase: str, gradients: int = 0) -> int:
    return division.communication(Point(phase, {GRADIENTS: gradients}))


def test_ddp_keeps_all_and_a_bucket_for_each_gradient():
    model = model_on_meta(SMALL)
    model.lm_head.requires_grad_(False)
    division = ddp(model, Sharing(4, 1))
    parameters = 3 * 20_832 + 2 * 333 * 48 + 48
    assert kept(division, model) == parameters
    assert communication(division, "optimizer") == 4 * (parameters - 333 * 48)


def test_fsdp_keeps_padded_rows_of_every_parameter():
    # of 48, 24, 96 and 333 rows five devices keep 10, 5, 20 and 67
    block = 480 + 240 + 240 + 480 + 960 + 960 + 960 + 10 + 10
    root = 2 * 67 * 48 + 10
    assert kept(fsdp(model := model_on_meta(SMALL), Sharing(5, 1)), model) == 3 * block + root


@pytest.mark.parametrize(
    (("reshard", "forward", "backward")),
    [(True, 128_840 + 2 * 86_800, 2 * 86_800), (False, 128_840 + 4 * 86_800, 3 * 86_800)],
)
def test_fsdp_gathers_the_root_and_two_blocks_or_all(reshard, forward, backward):
    division = fsdp(model_on_meta(SMALL), Sharing(5, 1, reshard))
    root, block = 5 * 6_442 * 4, 5 * 4_340 * 4
    assert (root, block) == (128_840, 86_800)
    assert communication(division, "forward") == forward
    assert communication(division, "backward") == root + backward
    assert communication(division, "backward", 1_000) == root + backward + 3 * 1_000
    all_there = root + backward + root + 2 * block
    assert communication(division, "backward", 10**6) == all_there
    assert communication(division, "optimizer") == 0


def test_fsdp_of_a_model_without_blocks_gathers_all_of_it():
    model = nn.Linear(6, 5)  # 5 rows and 5 biases, for two devices 6
    assert communication(fsdp(model, Sharing(2, 1)), "forward") == 4 * (6 * 6 + 6)


def test_tp_cuts_what_transformers_plan_says():
    block = 24 * 48 + 2 * 12 * 48 + 48 * 24 + 3 * 48 * 48 + 2 * 48
    ends = 2 * 167 * 48 + 48
    assert kept(tp(model := model_on_meta(SMALL), Sharing(2, 7)), model) == 3 * block + ends


def test_tp_cuts_an_update_on_the_side_of_its_weight():
    model = model_on_meta(SMALL)
    whole = kept(tp(model, Sharing(2, 7)), model)
    lora.inject(model, LORA)
    query, key, value = 3 * 48 + 24 * 3, 3 * 48 + 12 * 3, 3 * 48 + 12 * 3
    gate, up = 3 * 48 + 48 * 3, 3 * 48 + 48 * 3
    output, down = 3 * 24 + 48 * 3, 3 * 48 + 48 * 3
    added = 3 * (query + key + value + output + gate + up + down)
    assert kept(tp(model, Sharing(2, 7)), model) == whole + added


def test_tp_cuts_gpt2_as_megatron_does():
    attention = 48 * 72 + 72 + 24 * 48 + 48
    mlp = 48 * 96 + 96 + 96 * 48 + 48
    rest = 167 * 48 + 32 * 48 + 2 * 48
    expected = 2 * (attention + mlp + 4 * 48) + rest
    assert kept(tp(model := model_on_meta(GPT2), Sharing(2, 7)), model) == expected


def test_tp_cuts_roberta_as_megatron_does():
    attention = 3 * (24 * 48 + 24) + 48 * 24 + 48
    mlp = 48 * 48 + 48 + 48 * 48 + 48
    embeddings = 167 * 48 + 34 * 48 + 48 + 2 * 48
    head = 48 * 48 + 48 + 2 * 48 + 2
    expected = 2 * (attention + mlp + 4 * 48) + embeddings + head
    assert kept(tp(model := model_on_meta(ROBERTA), Sharing(2, 7)), model) == expected


@pytest.mark.parametrize(
    ("config", "module", "size"),
    [
        (SMALL, "model.layers.0.self_attn", 51),
        (SMALL, "model.layers.0.self_attn.q_proj", 51),
        (SMALL, "model.layers.0.self_attn.o_proj", 101),
        (SMALL, "model.layers.0.mlp.act_fn", 51),
        (SMALL, "model.layers.0.input_layernorm", 101),
        (SMALL, "model.layers.0", 101),
        (SMALL, "lm_head", 101),
        (SMALL, "", 101),
        (GPT2, "transformer.h.1.attn", 51),
        (GPT2, "transformer.h.1.attn.resid_dropout", 101),
        (GPT2, "transformer.h.1.mlp.c_proj", 101),
        (ROBERTA, "roberta.encoder.layer.1.intermediate.intermediate_act_fn", 51),
        (ROBERTA, "roberta.encoder.layer.1.attention.output.LayerNorm", 101),
        (ROBERTA, "classifier.dense", 101),
        (MIXTRAL, "model.layers.0.mlp.experts", 101),
    ],
)
def test_tp_cuts_activations_inside_attention_and_mlp(config, module, size):
    division = tp(model_on_meta(config), Sharing(2, 7))
    assert division.local_bytes(Block(101, module=module)) == size


@pytest.mark.parametrize("config", [SMALL, GPT2])
def test_tp_has_a_part_of_the_logits_and_the_whole(config):
    division = tp(model_on_meta(config), Sharing(2, 7))
    assert communication(division, "forward") == 4 * 7 * 167
    assert communication(division, "backward") == 4 * 7 * 167
    assert communication(division, "optimizer") == 0


@pytest.mark.parametrize(
    ("config", "devices", "message"),
    [
        (GPT2, 3, "for 3 devices, which num_attention_heads 4 is not divisible by"),
        (SMALL, 4, "num_key_value_heads 2"),
    ],
)
def test_devices_that_do_not_divide_the_heads_are_refused_with_the_rest(config, devices, message):
    with pytest.raises(ConfigError, match=message) as error:
        lora.plan(config, length=10_000, devices=devices, parallel="tp")
    assert "length is 10000" in str(error.value)


def test_tp_of_a_model_without_a_plan_is_refused():
    with pytest.raises(ConfigError, match="no tensor parallel plan of XLNet"):
        lora.plan(XLNetConfig(d_model=8, n_layer=1, n_head=2, d_inner=8), devices=2, parallel="tp")


def test_impossible_devices_are_listed_with_the_rest():
    with pytest.raises(ConfigError, match="devices is 0") as error:
        lora.plan(SMALL, batch=0, devices=0, parallel="fspd", reshard_after_forward=False)
    for text in ("batch is 0", "did you mean 'fsdp'", "reshard_after_forward is false"):
        assert text in str(error.value)


def test_parallel_without_devices_is_refused():
    with pytest.raises(ConfigError, match="say how many"):
        lora.plan(SMALL, parallel="fsdp")


def test_experts_are_cut_by_the_names_of_their_parameters():
    model = model_on_meta(MIXTRAL)
    attention, router, norms = 4 * 8 * 16, 4 * 16, 3 * 16
    experts = 4 * 32 * 16 + 4 * 16 * 16  # gate and up, and down
    expected = attention + router + norms + experts + 2 * 4 * 16
    assert kept(tp(model, Sharing(2, 7)), model) == expected
