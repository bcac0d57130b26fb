"""Files of microsoft/LoRA: the published one, and files made here that stand for the others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import lorakit as lora
from lorakit.errors import MismatchError, MissingAlphaError
from lorakit.injection.transfer.loading import LoadReport
from lorakit.injection.transfer.saving import bundle_of
from tests.tolerances import EXACT, MODEL

IDS = torch.arange(3, 27).view(2, 12)


def roberta(**sizes: Any) -> RobertaConfig:
    """RoBERTa-base as published; the vocabulary is small, as only its rows that occur count."""
    published = {
        "vocab_size": 40,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "num_labels": 3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return RobertaConfig(**{**published, **sizes})


# --- the published file


@pytest.fixture(scope="module")
def mnli(shared: Path) -> Path:
    return shared / "checkpoints" / "roberta_base_lora_mnli.bin"


@pytest.fixture(scope="module")
def base() -> nn.Module:
    torch.manual_seed(4)
    return RobertaForSequenceClassification(roberta())


@pytest.fixture(scope="module")
def by_hand(mnli: Path, base: nn.Module) -> nn.Module:
    """W + 2 B A written into the weights (alpha 16, rank 8), and the file's head."""
    model = copy.deepcopy(base)
    content = torch.load(mnli, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for key, value in content.items():
            name, _, leaf = key.rpartition(".")
            if leaf == "lora_A":
                b = content[f"{name}.lora_B"]
                model.get_submodule(name).weight.add_(2 * (b @ value))
            elif leaf != "lora_B":
                model.get_parameter(key).copy_(value)
    return model


@pytest.fixture
def loaded(mnli: Path, base: nn.Module) -> tuple[nn.Module, LoadReport]:
    model = copy.deepcopy(base)
    return model, lora.load_adapter(model, mnli, lora_alpha=16)


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def test_published_file_is_placed_without_a_rest(
    mnli: Path, loaded: tuple[nn.Module, LoadReport]
) -> None:
    model, report = loaded
    content = torch.load(mnli, map_location="cpu", weights_only=True)
    state = model.state_dict()
    factors = [key for key in content if key.endswith(("lora_A", "lora_B"))]
    assert (len(content), len(factors)) == (52, 48)
    for key, value in content.items():
        torch.testing.assert_close(state[key], value, **EXACT)
    assert {key for key in state if "lora_" in key} == set(factors)
    assert list(report.adapter.trained) == [key for key in state if key.startswith("classifier.")]
    assert len(report.adapter.trained) == 4
    assert report.adapter.adapter_parameters == 294_912
    assert sum(report.adapter.trained.values()) == 592_899
    assert {layer.scaling for layer in report.adapter.layers} == {2.0}
    assert (report.format, report.base_verified) == ("loralib", None)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_published_file_gives_w_plus_2_b_a(
    training: bool, loaded: tuple[nn.Module, LoadReport], by_hand: nn.Module, base: nn.Module
) -> None:
    model, _ = loaded
    expected = logits(by_hand.train(training))
    torch.testing.assert_close(logits(model.train(training)), expected, **MODEL)
    assert (logits(base.train(training)) - expected).abs().max() > 0.1


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_published_file_is_the_same_after_saving(
    training: bool,
    loaded: tuple[nn.Module, LoadReport],
    by_hand: nn.Module,
    base: nn.Module,
    tmp_path: Path,
) -> None:
    model, _ = loaded
    path = lora.save_adapter(model.train(training), tmp_path)
    again = copy.deepcopy(base).train(training)
    report = lora.load_adapter(again, path)
    assert (report.format, report.base_verified) == ("peft", True)
    torch.testing.assert_close(logits(again), logits(by_hand.train(training)), **MODEL)
    torch.testing.assert_close(logits(again), logits(model), **EXACT)


def test_published_file_folds_to_w_plus_2_b_a(
    loaded: tuple[nn.Module, LoadReport], by_hand: nn.Module
) -> None:
    model, _ = loaded
    lora.fold(model)
    found = model.state_dict()
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(found[name], tensor, **MODEL)


def test_published_file_adds_up_with_itself_and_is_resized(
    loaded: tuple[nn.Module, LoadReport],
) -> None:
    model, _ = loaded
    bundle = bundle_of(model)
    total = lora.combine([(bundle, 1.5), (bundle, -0.5)], rank=8)
    assert total.error.whole < 1e-6
    assert all(torch.equal(total.bundle.trained[n], t) for n, t in bundle.trained.items())
    small = lora.resize(bundle, rank=4)
    for found, norm in ((total, 1.0), (small, None)):
        for name, adapter in found.bundle.adapters.items():
            dense = bundle.adapters[name].delta().double()
            missed = float((adapter.delta().double() - dense).norm() / dense.norm())
            values = torch.linalg.svdvals(dense)
            best = 0.0 if norm else float(values[4:].norm() / values.norm())
            assert missed == pytest.approx(best, abs=1e-6)
            assert found.error.modules[name] == pytest.approx(missed, abs=1e-6)


def test_published_file_needs_its_alpha(mnli: Path, base: nn.Module) -> None:
    model = copy.deepcopy(base)
    with pytest.raises(MissingAlphaError, match="use 16 for RoBERTa"):
        lora.load_adapter(model, mnli)
    assert not any("lora_" in name for name in model.state_dict())


def test_published_file_does_not_go_onto_another_head(mnli: Path) -> None:
    with torch.device("meta"):
        model = RobertaForSequenceClassification(roberta(num_labels=2))
    with pytest.raises(MismatchError, match=r"expected \(2, 768\), got \(3, 768\).*"):
        lora.load_adapter(model, mnli, lora_alpha=16)


# --- files that stand for the others


def on_meta(model_class: type[nn.Module], config: Any) -> nn.Module:
    with torch.device("meta"):
        return model_class(config)


def roberta_large() -> tuple[nn.Module, dict[str, Tensor]]:
    config = roberta(
        vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        intermediate_size=4096,
    )  # fmt: skip
    content = {
        f"roberta.encoder.layer.{n}.attention.self.{name}.{leaf}": torch.randn(shape)
        for n in range(24)
        for name in ("query", "value")
        for leaf, shape in (("lora_A", (8, 1024)), ("lora_B", (1024, 8)))
    }
    content |= {
        "classifier.dense.weight": torch.randn(1024, 1024),
        "classifier.dense.bias": torch.randn(1024),
        "classifier.out_proj.weight": torch.randn(3, 1024),
        "classifier.out_proj.bias": torch.randn(3),
    }
    return on_meta(RobertaForSequenceClassification, config), content


def deberta_xxl() -> tuple[nn.Module, dict[str, Tensor]]:
    config = DebertaV2Config(
        vocab_size=128100, hidden_size=1536, num_hidden_layers=48, num_attention_heads=24,
        intermediate_size=6144, max_position_embeddings=512, type_vocab_size=0,
        relative_attention=True, position_buckets=256, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type=["p2c", "c2p"], conv_kernel_size=3, conv_act="gelu",
        position_biased_input=False, pooler_hidden_size=1536, num_labels=3,
    )  # fmt: skip
    content = {
        f"deberta.encoder.layer.{n}.attention.self.{name}.{leaf}": torch.randn(shape)
        for n in range(48)
        for name in ("query_proj", "value_proj")
        for leaf, shape in (("lora_A", (16, 1536)), ("lora_B", (1536, 16)))
    }
    content |= {
        "pooler.dense.weight": torch.randn(1536, 1536),
        "pooler.dense.bias": torch.randn(1536),
        "classifier.weight": torch.randn(3, 1536),
        "classifier.bias": torch.randn(3),
    }
    return on_meta(DebertaV2ForSequenceClassification, config), content


def gpt2_medium() -> tuple[nn.Module, dict[str, Tensor]]:
    config = GPT2Config(n_embd=1024, n_layer=24, n_head=16)
    content = {
        f"transformer.h.{n}.attn.c_attn.{leaf}": torch.randn(shape)
        for n in range(24)
        for leaf, shape in (("lora_A", (8, 1024)), ("lora_B", (2048, 4)))
    }
    return on_meta(GPT2LMHeadModel, config), content


Made = Callable[[], tuple[nn.Module, dict[str, Tensor]]]


@pytest.mark.parametrize(
    ("made", "keys", "alpha", "scaling", "numbers", "head"),
    [
        (roberta_large, 100, 16, 2, 786_432, 1_052_675),
        (deberta_xxl, 196, 32, 2, 4_718_592, 2_365_443),
        (gpt2_medium, 48, 32, 8, 393_216, 0),
    ],
    ids=["RoBERTa-large", "DeBERTa-v2-XXL", "GPT-2 medium"],
)
def test_other_files_are_placed_without_a_rest(
    made: Made, keys: int, alpha: int, scaling: int, numbers: int, head: int, tmp_path: Path
) -> None:
    model, content = made()
    assert len(content) == keys
    saved: Any = content
    if made is gpt2_medium:  # as gpt2_ft.py saves it, under DistributedDataParallel
        saved = {"model_state_dict": {f"module.{key}": value for key, value in content.items()}}
    torch.save(saved, tmp_path / "adapter.bin")
    report = lora.load_adapter(model, tmp_path / "adapter.bin", lora_alpha=alpha)
    state = model.state_dict()
    assert {key for key, tensor in state.items() if not tensor.is_meta} == content.keys()
    for key, value in content.items():
        torch.testing.assert_close(state[key], value, **EXACT)
    assert report.adapter.adapter_parameters == numbers
    assert sum(report.adapter.trained.values()) == head
    assert {layer.scaling for layer in report.adapter.layers} == {scaling}


def test_gpt2_file_adapts_q_and_v_of_its_fused_weight(tmp_path: Path) -> None:
    """By hand: rows 0 to n of the weight's transpose get B_q A_q, rows 2n to 3n B_v A_v."""
    torch.manual_seed(6)
    config = GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=24, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    plain = GPT2LMHeadModel(config).eval()
    content = {
        f"module.transformer.h.{n}.attn.c_attn.{leaf}": torch.randn(shape) * 0.3
        for n in range(2)
        for leaf, shape in (("lora_A", (8, 16)), ("lora_B", (32, 4)))
    }
    expected = copy.deepcopy(plain)
    with torch.no_grad():
        for n in range(2):
            prefix = f"module.transformer.h.{n}.attn.c_attn"
            a, b = content[f"{prefix}.lora_A"], content[f"{prefix}.lora_B"]
            weight = expected.transformer.h[n].attn.c_attn.weight
            weight[:, :16] += 8 * (b[:16] @ a[:4]).T
            weight[:, 32:] += 8 * (b[16:] @ a[4:]).T
    torch.save({"model_state_dict": content}, tmp_path / "model.100.pt")
    lora.load_adapter(plain, tmp_path / "model.100.pt", lora_alpha=32)
    torch.testing.assert_close(logits(plain), logits(expected), **MODEL)


def test_fused_pair_onto_a_layer_of_unknown_slices_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 12))
    torch.save({"0.lora_A": torch.ones(4, 6), "0.lora_B": torch.ones(8, 2)}, tmp_path / "a.pt")
    with pytest.raises(MismatchError, match=r"does not say which; call lorakit\.inject with"):
        lora.load_adapter(model, tmp_path / "a.pt", lora_alpha=1)
    lora.inject(model, lora.LoraConfig(r=2, lora_alpha=1, target_modules=["0"],
                                       slices={"0": [True, False, True]}))  # fmt: skip
    lora.load_adapter(model, tmp_path / "a.pt", lora_alpha=1)
    assert torch.equal(model[0].lora_B, torch.ones(8, 2))


def test_file_with_a_layer_less_is_refused(tmp_path: Path) -> None:
    model, content = roberta_large()
    gone = "roberta.encoder.layer.7.attention.self.query"
    kept = {key: value for key, value in content.items() if not key.startswith(gone)}
    torch.save(kept, tmp_path / "a.bin")
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(model, tmp_path / "a.bin", lora_alpha=16)
    assert caught.value.problems == (f"{gone} is a target module, but missing from the file",)
    assert not any("lora_" in name for name in model.state_dict())
