"""A merged checkpoint loads in plain transformers and computes what the adapted model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import (
    AutoModel,
    BertForSequenceClassification,
    GPT2LMHeadModel,
    GptOssForCausalLM,
    LlamaForCausalLM,
    MixtralForCausalLM,
    T5ForConditionalGeneration,
)

import lorakit as lora
from lorakit.errors import MismatchError, TargetError
from lorakit.merging import merge_files
from lorakit.private import transformers_names
from tests.injection import moe
from tests.merging import models
from tests.tolerances import MODEL

EVERYTHING = {"target_modules": "all-linear"}
CASES = {
    "bert": (models.bert, BertForSequenceClassification, EVERYTHING),
    "bert head and biases": (
        models.bert,
        BertForSequenceClassification,
        {"target_modules": ["query"], "modules_to_save": ["classifier"], "bias": "all"},
    ),
    "bert dora": (
        models.bert,
        BertForSequenceClassification,
        {"target_modules": ["query", "dense"], "use_dora": True},
    ),
    "llama": (models.llama, LlamaForCausalLM, {**EVERYTHING, "use_rslora": True}),
    "llama embeddings": (
        models.llama,
        LlamaForCausalLM,
        {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    ),
    "llama token rows": (
        models.llama,
        LlamaForCausalLM,
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 9, 40]},
    ),
    "gpt2": (models.gpt2, GPT2LMHeadModel, EVERYTHING),
    "gpt2 slices": (
        models.gpt2,
        GPT2LMHeadModel,
        {"target_modules": ["c_attn"], "slices": {"c_attn": [True, False, True]}},
    ),
    "gpt2 dora": (models.gpt2, GPT2LMHeadModel, {"target_modules": ["c_fc"], "use_dora": True}),
    "t5": (models.t5, T5ForConditionalGeneration, EVERYTHING),
    "mixtral attention": (models.mixtral, MixtralForCausalLM, {"target_modules": ["q_proj"]}),
}


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize(("make", "kind", "config"), CASES.values(), ids=CASES)
def test_merged_logits_are_those_of_the_adapted_model(
    make: Any, kind: Any, config: dict[str, Any], shards: bool, tmp_path: Path
) -> None:
    base = models.save(make, tmp_path / "base", shards)
    adapter = models.adapt(base, kind, tmp_path / "adapter", **config)
    report = merge_files(adapter, base, tmp_path / "merged")
    merged = models.strict(kind, tmp_path / "merged")
    assert_close(models.logits(merged), models.adapted_logits(base, kind, adapter), **MODEL)
    assert report.base_verified is not False
    assert report.worst_rounding < 1e-5
    cut = sorted(file.name for file in base.glob("*.safetensors"))
    assert sorted(file.name for file in (tmp_path / "merged").glob("*.safetensors")) == cut


@pytest.mark.parametrize("make", [models.llama, models.gpt2])
def test_merged_bf16_is_the_float32_sum_rounded_once(make: Any, tmp_path: Path) -> None:
    kind = type(make())
    base = models.save(make, tmp_path / "base", dtype=torch.bfloat16)
    adapter = models.adapt(base, kind, tmp_path / "adapter", **EVERYTHING)
    report = merge_files(adapter, base, tmp_path / "merged")
    wide = kind.from_pretrained(base, dtype=torch.float32)
    lora.load_adapter(wide, adapter)
    lora.fold(wide)
    merged = models.strict(kind, tmp_path / "merged")
    assert merged.dtype == torch.bfloat16
    expected = wide.to(torch.bfloat16).state_dict()
    different = sum(
        int((tensor != expected[name]).sum()) for name, tensor in merged.state_dict().items()
    )
    assert different <= sum(tensor.numel() for tensor in expected.values()) // 1000
    assert 1e-4 < report.worst_rounding < 0.5
    half = kind.from_pretrained(base)
    lora.load_adapter(half, adapter)
    assert report.rounding == pytest.approx(lora.fold(half).rounding, rel=1e-3)


def untied(make: Any, tmp_path: Path, **config: Any) -> None:
    kind = type(make(True))
    base = models.save(lambda: make(True), tmp_path / "base")
    adapter = models.adapt(base, kind, tmp_path / "adapter", **config)
    report = merge_files(adapter, base, tmp_path / "merged")
    assert report.untied
    said = json.loads((tmp_path / "merged/config.json").read_text())
    assert said["tie_word_embeddings"] is False
    merged = models.strict(kind, tmp_path / "merged")
    assert_close(models.logits(merged), models.adapted_logits(base, kind, adapter), **MODEL)
    embeddings, head = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert not torch.equal(embeddings, head)


@pytest.mark.parametrize("make", [models.llama, models.t5])
def test_tied_weights_of_which_one_is_adapted_are_untied(make: Any, tmp_path: Path) -> None:
    table = "embed_tokens" if make is models.llama else "shared"
    untied(make, tmp_path, target_modules=[table])


def test_tied_head_that_is_adapted_is_untied(tmp_path: Path) -> None:
    untied(models.llama, tmp_path, target_modules=["lm_head"])


def test_tied_weights_that_change_alike_stay_tied(tmp_path: Path) -> None:
    base = models.save(lambda: models.llama(True), tmp_path / "base")
    config = {"target_modules": ["q_proj"], "trainable_token_indices": [4, 11]}
    adapter = models.adapt(base, LlamaForCausalLM, tmp_path / "adapter", **config)
    report = merge_files(adapter, base, tmp_path / "merged")
    assert not report.untied
    merged = models.strict(LlamaForCausalLM, tmp_path / "merged")
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    expected = models.adapted_logits(base, LlamaForCausalLM, adapter)
    assert_close(models.logits(merged), expected, **MODEL)


def test_tied_head_that_is_stored_as_it_was_stays_tied(tmp_path: Path) -> None:
    base = models.save(lambda: models.llama(True), tmp_path / "base")
    model = LlamaForCausalLM.from_pretrained(base)
    config = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    lora.inject(model, lora.LoraConfig(r=2, init_lora_weights=False, **config))
    adapter = lora.save_adapter(model, tmp_path / "adapter")
    report = merge_files(adapter, base, tmp_path / "merged")
    assert not report.untied
    merged = models.strict(LlamaForCausalLM, tmp_path / "merged")
    assert merged.config.tie_word_embeddings
    assert_close(models.logits(merged), models.logits(model), **MODEL)


def test_untied_weights_are_untied_in_shards_too(tmp_path: Path) -> None:
    base = models.save(lambda: models.llama(True), tmp_path / "base", shards=True)
    adapter = models.adapt(base, LlamaForCausalLM, tmp_path / "a", target_modules=["lm_head"])
    merge_files(adapter, base, tmp_path / "merged")
    index = json.loads((tmp_path / "merged/model.safetensors.index.json").read_text())
    assert "lm_head.weight" in index["weight_map"]
    merged = models.strict(LlamaForCausalLM, tmp_path / "merged")
    expected = models.adapted_logits(base, LlamaForCausalLM, adapter)
    assert_close(models.logits(merged), expected, **MODEL)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`", "ignore:Model has `tie_word")
@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "all-linear", "use_rslora": True},
        {"target_modules": ["q_proj", "v_proj"], "use_dora": True},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["embed_tokens", "o_proj"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]},
        {"target_modules": ["q_proj", "down_proj"], "rank_pattern": {"down_proj": 4}},
    ],
    ids=lambda config: " ".join(map(str, config.values())),
)
@pytest.mark.parametrize("tied", [False, True])
def test_adapters_of_peft_merge_to_what_peft_computes(
    config: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    base = models.save(lambda: models.llama(tied), tmp_path / "base", shards=True)
    wrapped = peft.get_peft_model(
        LlamaForCausalLM.from_pretrained(base),
        peft.LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False, **config),
    )
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    wrapped.save_pretrained(tmp_path / "adapter")
    merge_files(tmp_path / "adapter", base, tmp_path / "merged")
    merged = models.strict(LlamaForCausalLM, tmp_path / "merged")
    assert_close(models.logits(merged), models.logits(wrapped), **MODEL)


def test_base_of_pickles_becomes_safetensors(tmp_path: Path) -> None:
    base = models.save(models.llama, tmp_path / "base")
    torch.save(LlamaForCausalLM.from_pretrained(base).state_dict(), base / "pytorch_model.bin")
    adapter = models.adapt(base, LlamaForCausalLM, tmp_path / "adapter", **EVERYTHING)
    expected = models.adapted_logits(base, LlamaForCausalLM, adapter)
    (base / "model.safetensors").unlink()
    merge_files(adapter, base, tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("*.bin"))
    assert_close(
        models.logits(models.strict(LlamaForCausalLM, tmp_path / "merged")), expected, **MODEL
    )


def test_max_shard_size_cuts_the_output(tmp_path: Path) -> None:
    base = models.save(models.llama, tmp_path / "base")
    adapter = models.adapt(base, LlamaForCausalLM, tmp_path / "adapter", **EVERYTHING)
    report = merge_files(adapter, base, tmp_path / "merged", max_shard_size=8000)
    assert len(report.shards) > 2
    expected = models.adapted_logits(base, LlamaForCausalLM, adapter)
    merged = models.strict(LlamaForCausalLM, tmp_path / "merged")
    assert_close(models.logits(merged), expected, **MODEL)


def test_head_is_put_in_place_on_the_body_that_the_base_is(tmp_path: Path) -> None:
    """The base's names have no prefix then, and the merged model's have."""
    whole = models.bert()
    whole.bert.save_pretrained(tmp_path / "base")
    base = tmp_path / "base"
    config = {"target_modules": ["query"], "modules_to_save": ["classifier"]}
    model = BertForSequenceClassification.from_pretrained(base, num_labels=5)
    lora.inject(model, lora.LoraConfig(r=2, init_lora_weights=False, **config))
    adapter = lora.save_adapter(model, tmp_path / "adapter")
    report = merge_files(adapter, base, tmp_path / "merged")
    name = "embeddings.word_embeddings.weight"
    assert report.renamed[name] == f"bert.{name}"
    merged = models.strict(BertForSequenceClassification, tmp_path / "merged")
    assert merged.config.num_labels == 5
    assert merged.config.architectures == ["BertForSequenceClassification"]
    assert_close(models.logits(merged), models.logits(model), **MODEL)


def test_names_of_a_part_of_the_base_are_found_and_said(tmp_path: Path) -> None:
    """An adapter of the bare model, by another tool, which does not say of which class that was."""
    base = models.save(models.bert, tmp_path / "base")
    wrapped = peft.get_peft_model(
        AutoModel.from_pretrained(base),
        peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False),
    )
    wrapped.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter/adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "auto_mapping": None}))
    report = merge_files(tmp_path / "adapter", base, tmp_path / "merged")
    name = "encoder.layer.0.attention.self.query"
    assert report.renamed_modules[f"bert.{name}"] == name
    assert f"such as {name} to bert.{name}" in str(report)
    merged = models.strict(BertForSequenceClassification, tmp_path / "merged")
    with torch.no_grad():
        found, expected = merged.eval().bert(models.IDS)[0], wrapped.eval()(models.IDS)[0]
    assert_close(found, expected, **MODEL)


def test_names_that_fit_in_several_places_are_refused_with_them(tmp_path: Path) -> None:
    base = models.save(models.t5, tmp_path / "base")
    encoder = T5ForConditionalGeneration.from_pretrained(base).encoder
    wrapped = peft.get_peft_model(encoder, peft.LoraConfig(r=2, target_modules=["q"]))
    names = [n for n, m in encoder.named_modules() if n.endswith("SelfAttention.q")]
    wrapped.save_pretrained(tmp_path / "adapter")
    with pytest.raises(MismatchError, match="in several places") as raised:
        merge_files(tmp_path / "adapter", base, tmp_path / "merged")
    assert all(f"{part}.{names[0]}" in str(raised.value) for part in ("encoder", "decoder"))


def test_other_head_of_the_base_is_left_out_and_said(tmp_path: Path) -> None:
    base = models.save(models.bert, tmp_path / "base")
    model = AutoModel.from_pretrained(base)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    adapter = lora.save_adapter(model, tmp_path / "adapter")
    report = merge_files(adapter, base, tmp_path / "merged")
    assert set(report.left_out) == {"classifier.weight", "classifier.bias"}
    assert "left out, as BertModel has none: classifier" in str(report)
    merged = models.strict(type(model), tmp_path / "merged")
    with torch.no_grad():
        assert_close(merged.eval()(models.IDS)[0], model.eval()(models.IDS)[0], **MODEL)


def test_what_the_model_does_not_load_stays_in_a_checkpoint_of_its_class(tmp_path: Path) -> None:
    """Other tools may: DeepSeek's checkpoints have layers that transformers passes over."""
    base = models.save(models.llama, tmp_path / "base")
    more = {**load_file(base / "model.safetensors"), "mtp.extra.weight": torch.ones(3)}
    save_file(more, base / "model.safetensors", metadata={"format": "pt"})
    adapter = models.adapt(base, LlamaForCausalLM, tmp_path / "adapter", **EVERYTHING)
    merge_files(adapter, base, tmp_path / "merged")
    assert "mtp.extra.weight" in load_file(tmp_path / "merged/model.safetensors")


EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj"], "target_parameters": EXPERTS},
        {"target_modules": ["q_proj"], "modules_to_save": ["experts"]},
    ],
    ids=["adapted", "trained in full"],
)
def test_experts_that_the_file_stores_apart_are_merged_there(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """The file has w1, w3 and w2 of each expert, the model all of them in two parameters."""
    base = models.save(models.mixtral, tmp_path / "base")
    adapter = models.adapt(base, MixtralForCausalLM, tmp_path / "adapter", **config)
    report = merge_files(adapter, base, tmp_path / "merged")
    merged = models.strict(MixtralForCausalLM, tmp_path / "merged")
    expected = models.adapted_logits(base, MixtralForCausalLM, adapter)
    assert_close(models.logits(merged), expected, **MODEL)
    there = load_file(tmp_path / "merged/model.safetensors")
    assert list(there) == list(load_file(base / "model.safetensors"))
    named = {name for name in report.rounding if "experts" in name}
    assert named == {f"model.layers.0.mlp.{end}" for end in config.get("target_parameters", ())}


def test_experts_that_are_stacked_in_the_file_are_merged_block_by_block(tmp_path: Path) -> None:
    base = moe.model_of("gpt_oss")
    base.save_pretrained(tmp_path / "base")
    lora.inject(base, lora.LoraConfig(r=2, **moe.ALONE, init_lora_weights=False))
    adapter = lora.save_adapter(base, tmp_path / "adapter")
    merge_files(adapter, tmp_path / "base", tmp_path / "merged")
    merged = models.strict(GptOssForCausalLM, tmp_path / "merged")
    assert_close(moe.logits(merged), moe.logits(base), **MODEL)


def test_experts_that_the_file_has_in_another_form_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where transformers does more than to stack them."""
    monkeypatch.setattr(transformers_names, "_only_stacks", lambda rule: False)
    base = models.save(models.mixtral, tmp_path / "base")
    model = MixtralForCausalLM.from_pretrained(base)
    config = {"target_modules": ["q_proj"], "modules_to_save": ["experts"]}
    lora.inject(model, lora.LoraConfig(r=2, **config))
    adapter = lora.save_adapter(model, tmp_path / "adapter")
    with pytest.raises(MismatchError, match=r"experts\.gate_up_proj is made of 4 tensors"):
        merge_files(adapter, base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_embedding_with_max_norm_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = models.save(models.gpt2, tmp_path / "base")
    adapter = models.adapt(base, GPT2LMHeadModel, tmp_path / "adapter", target_modules=["wte"])
    plain = torch.nn.Embedding.__init__

    def bounded(self: Any, *sizes: Any, **options: Any) -> None:
        plain(self, *sizes, **{**options, "max_norm": 1.0})

    monkeypatch.setattr(torch.nn.Embedding, "__init__", bounded)
    with pytest.raises(TargetError, match="max_norm"):
        merge_files(adapter, base, tmp_path / "merged")
