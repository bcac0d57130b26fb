"""Right after `inject` a model computes what it did, bit for bit, under the same names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import StateError
from lorakit.functional import initialise
from lorakit.injection.record import injection_of
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from lorakit.layers.refusals import refusal
from tests.injection import zoo
from tests.injection.checks import (
    assert_same,
    gradients,
    loss,
    outputs,
    q_and_v,
    slow_delta,
    snapshot,
)
from tests.tolerances import EXACT, MODEL


@pytest.mark.parametrize("name", zoo.CASES)
@pytest.mark.parametrize("training", [False, True])
def test_outputs_are_equal_bit_for_bit(name: str, training: bool) -> None:
    case = zoo.CASES[name]
    model = case.build().train(training)
    torch.manual_seed(0)
    before = outputs(case, model)
    lora.inject(model, q_and_v(case))
    torch.manual_seed(0)
    assert_close(outputs(case, model), before, **EXACT)


@pytest.mark.parametrize("name", zoo.CASES)
def test_outputs_are_equal_with_everything_adapted_that_can_be(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    before = outputs(case, model)
    refused = lora.targets(model).refused
    every = [
        name
        for name, module in model.named_modules()
        if name and refusal(module) is None and name not in refused
    ]
    report = lora.inject(model, lora.LoraConfig(r=1, target_modules=every))
    assert len(report.layers) == sum(group.count for group in lora.targets(case.build()).groups)
    assert_close(outputs(case, model), before, **EXACT)


@pytest.mark.parametrize("name", zoo.CASES)
def test_outputs_equal_a_model_with_the_sum_in_its_weights(name: str) -> None:
    """The slow definition: W + scaling * B A, put into a second model."""
    case = zoo.CASES[name]
    model, expected = case.build(), case.build()
    before = outputs(case, model)
    lora.inject(model, q_and_v(case, lora_alpha=6, init_lora_weights=False))
    for key, layer in lora_layers(model):
        with torch.no_grad():
            expected.get_submodule(key).weight += slow_delta(layer)
    assert (outputs(case, model) - before).abs().max() > 1e-3
    assert_close(outputs(case, model), outputs(case, expected), **MODEL)


@pytest.mark.parametrize("name", zoo.CASES)
def test_names_objects_and_hooks_stay(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    called: list[nn.Module] = []
    target = model.get_submodule(
        next(n for n, _ in model.named_modules() if n.endswith(case.targets))
    )
    target.register_forward_hook(lambda module, args, output: called.append(module))
    before = snapshot(model)
    lora.inject(model, q_and_v(case))
    after = snapshot(model)
    assert after["modules"] == before["modules"]
    for what in ("parameters", "values"):
        kept = {n: v for n, v in after[what].items() if not n.endswith((".lora_A", ".lora_B"))}
        assert kept.keys() == before[what].keys()
        assert_close(kept, before[what], **EXACT)
    assert after["buffers"] == before["buffers"]
    assert after["training"] == before["training"]
    assert isinstance(target, AdapterLayer)
    case.output(model)
    assert called == [target]


@pytest.mark.parametrize("name", zoo.CASES)
def test_only_a_and_b_require_gradients_and_each_gets_one(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    lora.inject(model, q_and_v(case, init_lora_weights=False))
    loss(case.output(model)).backward()
    factors = {f"{n}.{leaf}" for n, _ in lora_layers(model) for leaf in ("lora_A", "lora_B")}
    found = gradients(model)
    assert found.keys() == factors
    assert all(grad.abs().max() > 0 for grad in found.values())
    assert all(p.grad is None for n, p in model.named_parameters() if n not in factors)


def test_a_frozen_parameter_does_not_come_back_trainable() -> None:
    model = zoo.bert()
    model.embeddings.requires_grad_(False)
    before = snapshot(model)
    lora.inject(model, lora.LoraConfig(r=2))
    lora.eject(model)
    assert_same(before, snapshot(model))


# --- tied weights


def test_the_embedding_moves_without_its_tied_head() -> None:
    model = zoo.gpt2()
    tied = model.lm_head.weight
    head_input = torch.randn(3, 16)
    with torch.no_grad():
        logits, rows = model.lm_head(head_input), model.transformer.wte(torch.arange(5))
        report = lora.inject(
            model, lora.LoraConfig(r=2, target_modules=["wte"], init_lora_weights=False)
        )
        assert report.tied == (("transformer.wte.weight", "lm_head.weight"),)
        assert model.lm_head.weight is model.transformer.wte.weight is tied
        assert_close(model.lm_head(head_input), logits, **EXACT)
        assert (model.transformer.wte(torch.arange(5)) - rows).abs().max() > 1e-2


def test_the_head_moves_without_its_tied_embedding() -> None:
    model = zoo.gpt2()
    head_input = torch.randn(3, 16)
    with torch.no_grad():
        logits, rows = model.lm_head(head_input), model.transformer.wte(torch.arange(5))
        lora.inject(
            model, lora.LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
        )
        with lora.merged(model):
            assert_close(model.transformer.wte(torch.arange(5)), rows, **EXACT)
            assert (model.lm_head(head_input) - logits).abs().max() > 1e-2
    assert model.lm_head.weight is model.transformer.wte.weight


def test_two_parameters_over_one_memory_count_as_tied() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = nn.Parameter(model["a"].weight.detach())
    report = lora.inject(model, lora.LoraConfig(r=2, target_modules=["b"]))
    assert report.tied == (("a.weight", "b.weight"),)


# --- the report


def test_the_report_counts_what_is_adapted_trained_and_left_out() -> None:
    model = zoo.roberta()
    total = sum(p.numel() for p in model.parameters())
    config = lora.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["query", "out_proj"],
        rank_pattern={"layer.0.*query": 20},
        modules_to_save=["classifier.dense"],
    )
    report = lora.inject(model, config)
    prefix = "roberta.encoder.layer"
    assert [
        (x.name, x.type, x.weight_shape, x.r, x.scaling, x.max_rank) for x in report.layers
    ] == [
        (f"{prefix}.0.attention.self.query", "Linear", (16, 16), 20, 6 / 20, 16),
        (f"{prefix}.1.attention.self.query", "Linear", (16, 16), 4, 6 / 4, 16),
        ("classifier.out_proj", "Linear", (2, 16), 4, 6 / 4, 2),
    ]
    assert [x.parameters for x in report.layers] == [20 * 32, 4 * 32, 4 * 18]
    assert report.adapter_parameters == 20 * 32 + 4 * 32 + 4 * 18
    assert report.trained == {"classifier.dense.weight": 256, "classifier.dense.bias": 16}
    assert report.trainable_parameters == report.adapter_parameters + 272
    assert report.total_parameters == total
    assert report.above_max_rank == (f"{prefix}.0.attention.self.query", "classifier.out_proj")
    matrices = {n for n, p in zoo.roberta().named_parameters() if p.ndim > 1}
    adapted = {f"{x.name}.weight" for x in report.layers}
    assert report.uncovered.keys() == matrices - adapted - {"classifier.dense.weight"}
    assert report.uncovered["roberta.embeddings.word_embeddings.weight"] == 40 * 16


def test_the_trainable_count_is_that_of_the_optimizer() -> None:
    model = zoo.gpt2()
    report = lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["ln_f"], bias="lora_only"))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.trainable_parameters == trainable


def test_parameters_outside_modules_that_can_be_adapted_are_uncovered() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(4, 2)
            self.gate_up_proj = nn.Parameter(torch.zeros(2, 4, 6))

    report = lora.inject(Experts(), lora.LoraConfig(r=1, target_modules=["router"]))
    assert report.uncovered == {"gate_up_proj": 48}


def test_the_report_prints_one_row_a_kind_of_layer() -> None:
    model = zoo.gpt2()
    config = lora.LoraConfig(
        r=2, lora_alpha=4, target_modules=["c_attn", "wte"], slices={"c_attn": [True, False, True]},
        modules_to_save=["ln_f"], rank_pattern={"wte": 40},
    )  # fmt: skip
    lines = str(lora.inject(model, config)).splitlines()
    total = sum(p.numel() for p in zoo.gpt2().parameters())
    trainable = 40 * 56 + 2 * (4 * 16 + 32 * 2) + 32
    assert lines == [
        f"GPT2LMHeadModel: {trainable:,} trainable parameters, {total:,} base parameters "
        f"({trainable / total:.2%})",
        "",
        "layers                       count  type       weight    r  scaling  parameters",
        "transformer.wte                  1  Embedding  40 x 16  40      0.1       2,240",
        "transformer.h.*.attn.c_attn      2  Conv1D     16 x 48   2        2         256",
        "trained in full: transformer.ln_f.weight (16), transformer.ln_f.bias (16)",
        "frozen, without adapter: transformer.h.*.mlp.c_fc.weight (2,048), "
        "transformer.h.*.mlp.c_proj.weight (2,048), transformer.h.*.attn.c_proj.weight (512), "
        "transformer.wpe.weight (256)",
        "rank above min(in, out): transformer.wte",
        "tied weights, only one of them adapted: transformer.wte.weight = lm_head.weight",
    ]


def test_the_report_names_the_largest_tensors_and_counts_the_rest() -> None:
    report = lora.inject(zoo.llama(), lora.LoraConfig(r=40, target_modules=["q_proj", "o_proj"]))
    notes = dict(line.split(": ", 1) for line in str(report).splitlines() if ": " in line)
    frozen = notes["frozen, without adapter"].split(", m")
    sizes = [int(re.search(r"\(([\d,]+)\)", item).group(1).replace(",", "")) for item in frozen[:6]]
    assert sizes == sorted(sizes, reverse=True)
    assert notes["frozen, without adapter"].endswith(", and 1 more")
    assert notes["rank above min(in, out)"] == (
        "model.layers.*.self_attn.q_proj (2 layers), model.layers.*.self_attn.o_proj (2 layers)"
    )


def test_targets_lists_what_the_report_would_count() -> None:
    model = zoo.llama()
    groups = {group.suffix: group for group in lora.targets(model, r=3).groups}
    report = lora.inject(model, lora.LoraConfig(r=3, target_modules=["k_proj", "embed_tokens"]))
    assert (groups["k_proj"].in_features, groups["k_proj"].out_features) == (16, 8)
    sizes = groups["k_proj"].parameters + groups["embed_tokens"].parameters
    assert sizes == report.adapter_parameters
    assert groups["k_proj"].count == 2


# --- refusals and failures


@pytest.mark.parametrize("same", [True, False])
def test_injecting_twice_is_refused_and_changes_nothing(same: bool) -> None:
    model = zoo.bert()
    lora.inject(model, lora.LoraConfig(r=2))
    before = snapshot(model)
    record = injection_of(model)
    second = lora.LoraConfig(r=2, target_modules=["query"] if same else ["dense"])
    with pytest.raises(StateError, match="already has 4 adapted layers"):
        lora.inject(model, second)
    assert injection_of(model) is record
    assert_same(before, snapshot(model))


def test_injecting_around_an_adapted_part_is_refused() -> None:
    model = zoo.bert("BertForSequenceClassification")
    lora.inject(model.bert, lora.LoraConfig(r=2))
    with pytest.raises(StateError, match=r"already has \d+ adapted layers"):
        lora.inject(model, lora.LoraConfig(r=2))


@pytest.mark.parametrize("build", [zoo.gpt2, zoo.bart, zoo.vit])
@pytest.mark.parametrize("fail_at", [0, 2])
def test_a_failure_inside_leaves_the_model_as_it_was(
    build: Callable[[], nn.Module], fail_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    before = snapshot(model)
    calls: list[int] = []

    def runs_out_of_memory(weight: Tensor, r: int) -> tuple[Tensor, Tensor]:
        calls.append(r)
        if len(calls) > fail_at:
            raise MemoryError("no room for A and B")
        return initialise.kaiming(weight, r)

    monkeypatch.setitem(initialise.INITIALISERS, True, runs_out_of_memory)
    with pytest.raises(MemoryError, match="no room"):
        lora.inject(model, lora.LoraConfig(target_modules="all-linear", bias="all"))
    assert len(calls) == fail_at + 1
    assert injection_of(model) is None
    assert_same(before, snapshot(model))


def test_a_failure_while_copying_heads_leaves_the_model_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = zoo.roberta()
    before = snapshot(model)
    head = model.classifier.out_proj.weight

    def runs_out_of_memory(self: Tensor, **settings: Any) -> Tensor:
        if self.data_ptr() == head.data_ptr():
            raise MemoryError("no room for a copy")
        return torch.empty_like(self).copy_(self)

    monkeypatch.setattr(Tensor, "clone", runs_out_of_memory)
    with pytest.raises(MemoryError, match="no room"):
        lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    monkeypatch.undo()
    assert_same(before, snapshot(model))


# --- kinds of models


@pytest.mark.parametrize("r", [1, 3])
def test_every_kind_of_layer_in_one_sequential_can_be_adapted(r: int) -> None:
    model = nn.Sequential(
        nn.Embedding(7, 6),
        nn.Conv1d(5, 4, 3, padding=1),
        nn.Linear(6, 5),
        nn.Flatten(),
        nn.Linear(20, 2),
    )
    ids = torch.randint(0, 7, (3, 5))
    before = model(ids)
    lora.inject(model, lora.LoraConfig(r=r, target_modules=["0", "1", "2", "4"]))
    assert_close(model(ids), before, **EXACT)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}
    assert shapes == {
        "0.lora_A": (r, 7), "0.lora_B": (6, r), "1.lora_A": (r, 5, 3), "1.lora_B": (4, r, 1),
        "2.lora_A": (r, 6), "2.lora_B": (5, r), "4.lora_A": (r, 20), "4.lora_B": (2, r),
    }  # fmt: skip


def test_a_single_layer_is_a_model_when_it_has_a_parent_only() -> None:
    """The root itself has no name, so no pattern means it."""
    for patterns in ("all-linear", ["weight"], None):
        with pytest.raises(lora.errors.TargetError, match=r"wrap it: nn\.Sequential\(module\)"):
            lora.inject(nn.Linear(2, 2), lora.LoraConfig(target_modules=patterns))


def test_factors_start_as_the_initialiser_says() -> None:
    model = zoo.llama()
    lora.inject(
        model, lora.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="gaussian")
    )
    layers = [layer for _, layer in lora_layers(model)]
    assert all(not layer.lora_B.any() for layer in layers)
    spread = torch.cat([layer.lora_A.flatten() for layer in layers]).std()
    assert 0.7 / 4 < spread < 1.3 / 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_adapters_are_master_copies_of_at_least_float32(dtype: torch.dtype) -> None:
    case = zoo.CASES["llama"]
    model = case.build().to(dtype)
    before = outputs(case, model)
    lora.inject(model, q_and_v(case))
    expected = torch.promote_types(dtype, torch.float32)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {expected}
    assert_close(outputs(case, model), before, **EXACT)


def test_a_speech_model_without_input_embeddings_can_be_adapted() -> None:
    """transformers' get_input_embeddings raises for it."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    convolutions = {"conv_dim": (8, 8), "conv_stride": (2, 2), "conv_kernel": (3, 3)}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    config = transformers.Wav2Vec2Config(
        intermediate_size=24, vocab_size=10, num_feat_extract_layers=2,
        **sizes, **convolutions, **positions,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForCTC(config).eval()
    sound = torch.randn(2, 64)
    with torch.no_grad():
        before = model(sound).logits
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        assert_close(model(sound).logits, before, **EXACT)


def test_a_real_encoder_is_adapted_trained_and_ejected(minilm: Path) -> None:
    model = transformers.AutoModel.from_pretrained(minilm).eval()
    ids = torch.randint(1000, 20000, (2, 12))
    with torch.no_grad():
        before = model(ids).last_hidden_state
    pretrained = {name: value.clone() for name, value in model.state_dict().items()}
    report = lora.inject(model, lora.LoraConfig(r=8, lora_alpha=16))
    assert len(report.layers) == 12
    assert report.trainable_parameters == 12 * 8 * (384 + 384)
    assert report.total_parameters == 22_713_216
    with torch.no_grad():
        assert_close(model(ids).last_hidden_state, before, **EXACT)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):
        loss = (model(ids).last_hidden_state[:, 0].mean(-1) - 1).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    lora.eject(model)
    assert_close(model.state_dict(), pretrained, **EXACT)
    with torch.no_grad():
        assert_close(model(ids).last_hidden_state, before, **EXACT)
