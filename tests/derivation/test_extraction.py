"""An adapter from two checkpoints: what it holds, its error, and all else that differs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import lorakit as lora
from lorakit.algebra import differences
from lorakit.base_checkpoints import BaseCheckpoint
from lorakit.checkpoint import write
from lorakit.errors import ConfigError, FormatError, MismatchError
from tests.tolerances import MODEL

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}
IDS = torch.arange(3, 12)[None]


def llama(width: int = 32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**SIZES, "hidden_size": width}, intermediate_size=48, num_key_value_heads=2
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2)).eval()


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(**SIZES, intermediate_size=48, num_labels=3)
    return BertForSequenceClassification(config).eval()


def save(model: nn.Module, path: Path, **options) -> Path:
    model.save_pretrained(path, **options)
    return path


def save_bin(model: nn.Module, path: Path) -> Path:
    """As transformers did before safetensors, in two shards."""
    save(model, path)
    (path / "model.safetensors").unlink()
    state = list(model.state_dict().items())
    half = len(state) // 2
    weight_map = {}
    for n, part in enumerate((state[:half], state[half:]), 1):
        name = f"pytorch_model-{n:05}-of-00002.bin"
        torch.save(dict(part), path / name)
        weight_map |= {key: name for key, _ in part}
    index = path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def folded(model: nn.Module, targets: list[str], r: int = 4) -> dict[str, Tensor]:
    """Give the model's weights a random update of this rank; the updates by module."""
    torch.manual_seed(1)
    config = lora.LoraConfig(r=r, target_modules=targets, init_lora_weights=False)
    lora.inject(model, config)
    updates = {
        name: module.delta_weight().detach()
        for name, module in model.named_modules()
        if hasattr(module, "delta_weight")
    }
    lora.fold(model)
    return updates


def disturbed(model: nn.Module, chosen: Callable[[str], bool]) -> nn.Module:
    """Other values in the parameters whose names are chosen."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if chosen(name):
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


FORMS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "one file": save,
    "shards": lambda model, path: save(model, path, max_shard_size="20KB"),
    "pickled shards": save_bin,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_merged_adapter_is_found_again(form: str, tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    model = llama()
    updates = folded(model, ["q_proj", "down_proj"])
    tuned = FORMS[form](model, tmp_path / "tuned")
    outcome = lora.extract(base, tuned, rank=4)
    assert set(outcome.bundle.adapters) == set(updates)
    for name, update in updates.items():
        found = outcome.bundle.adapters[name].delta()
        assert float((found - update).norm() / update.norm()) < 1e-5
    assert outcome.error.whole < 1e-5
    assert outcome.bundle.config.target_modules == ("q_proj", "down_proj")
    assert outcome.bundle.base_model == str(base)
    again = llama()
    write(outcome.bundle, tmp_path / "adapter")
    assert lora.load_adapter(again, tmp_path / "adapter").base_verified
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits, **MODEL)


def test_layers_of_gpt2_are_found_in_their_layout(tmp_path: Path) -> None:
    base, model = save(gpt2(), tmp_path / "base"), gpt2()
    updates = folded(model, ["c_attn", "c_proj"])
    outcome = lora.extract(base, save(model, tmp_path / "tuned"), rank=4)
    assert set(outcome.bundle.adapters) == set(updates)
    write(outcome.bundle, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(gpt2(), tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, **MODEL)


@pytest.mark.parametrize("width", [32, 288])
def test_error_is_that_of_the_dense_difference_and_near_the_best(
    width: int, tmp_path: Path
) -> None:
    base = save(llama(width), tmp_path / "base")
    model = disturbed(llama(width), lambda name: "layers.0" in name and "q_proj" in name)
    outcome = lora.extract(base, save(model, tmp_path / "tuned"), rank=8)
    ((name, adapter),) = outcome.bundle.adapters.items()
    difference = (
        model.get_submodule(name).weight - llama(width).get_submodule(name).weight
    ).detach()
    missed = float((adapter.delta() - difference).norm() / difference.norm())
    values = torch.linalg.svdvals(difference.double())
    best = float(values[8:].norm() / values.norm())
    assert outcome.error.modules[name] == pytest.approx(missed, rel=1e-4)
    assert best <= missed * (1 + 1e-6)
    assert missed < 1.02 * best


def test_energy_gives_each_layer_its_rank(tmp_path: Path) -> None:
    base, model = save(llama(), tmp_path / "base"), llama()
    folded(model, ["q_proj"], r=2)
    disturbed(model, lambda name: "layers.1.self_attn.v_proj" in name)
    outcome = lora.extract(base, save(model, tmp_path / "tuned"), energy=0.999)
    ranks = {name: x.spec.r for name, x in outcome.bundle.adapters.items()}
    assert ranks["model.layers.0.self_attn.q_proj"] == 2
    assert 8 < ranks["model.layers.1.self_attn.v_proj"] <= 16


def test_a_rank_above_a_layer_s_is_cut_to_it(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    model = disturbed(llama(), lambda name: "v_proj" in name or "q_proj" in name)
    outcome = lora.extract(base, save(model, tmp_path / "tuned"), rank=20)
    assert {x.spec.r for x in outcome.bundle.adapters.values()} == {16, 20}


def test_all_that_has_no_low_rank_is_listed(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    tuned = save(disturbed(llama(), lambda name: True), tmp_path / "tuned")
    with pytest.raises(MismatchError, match=r"--keep-rest \(keep_rest=True\) saves it") as caught:
        lora.extract(base, tuned, rank=4)
    assert sorted(caught.value.problems) == [
        "model.embed_tokens.weight has changed",
        "model.layers.{0,1}.input_layernorm.weight has changed",
        "model.layers.{0,1}.post_attention_layernorm.weight has changed",
        "model.norm.weight has changed",
    ]


def test_what_is_kept_whole_gives_the_tuned_model_in_peft(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    model = disturbed(llama(), lambda name: "norm" in name or "embed" in name)
    folded(model, ["q_proj", "lm_head"])
    outcome = lora.extract(base, save(model, tmp_path / "tuned"), rank=4, keep_rest=True)
    assert "model.norm" in (outcome.bundle.config.modules_to_save or ())
    write(outcome.bundle, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(llama(), tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, **MODEL)
    ours = llama()
    lora.load_adapter(ours, tmp_path / "adapter")
    torch.testing.assert_close(ours(IDS).logits, model(IDS).logits, **MODEL)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_a_tied_embedding_is_kept_with_the_head_that_is_tied_to_it(tmp_path: Path) -> None:
    base = save(gpt2(), tmp_path / "base")
    model = disturbed(gpt2(), lambda name: "wte" in name)
    folded(model, ["c_attn"])
    bundle = lora.extract(base, save(model, tmp_path / "tuned"), rank=4, keep_rest=True).bundle
    assert bundle.config.modules_to_save == ("transformer.wte", "lm_head")
    write(bundle, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(gpt2(), tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, **MODEL)
    ours = gpt2()
    lora.load_adapter(ours, tmp_path / "adapter")
    torch.testing.assert_close(ours(IDS).logits, model(IDS).logits, **MODEL)


BIASES = {"query.bias": "lora_only", "output.dense.bias": "all"}


@pytest.mark.parametrize("changed", BIASES)
def test_biases_are_kept_by_themselves(changed: str, tmp_path: Path) -> None:
    base = save(bert(), tmp_path / "base")
    model = disturbed(bert(), lambda name: name.endswith(changed))
    folded(model, ["query"])
    outcome = lora.extract(base, save(model, tmp_path / "tuned"), rank=4, keep_rest=True)
    assert outcome.bundle.config.bias == BIASES[changed]
    assert outcome.bundle.config.modules_to_save is None
    assert {name.endswith(changed) for name in outcome.bundle.trained} == {True}
    write(outcome.bundle, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(bert(), tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, **MODEL)


def test_a_classifier_is_found_on_a_base_without_its_head(tmp_path: Path) -> None:
    model = bert()
    base = save(model.bert, tmp_path / "base")
    folded(model, ["query"])
    tuned = save(model, tmp_path / "tuned")
    with pytest.raises(MismatchError) as caught:
        lora.extract(base, tuned, rank=4)
    assert tuple(sorted(caught.value.problems)) == (
        "classifier.bias is not in the base",
        "classifier.weight is not in the base",
    )
    bundle = lora.extract(base, tuned, rank=4, keep_rest=True).bundle
    assert bundle.config.modules_to_save == ("classifier",)
    assert (bundle.task_type, bundle.num_labels) == ("SEQ_CLS", 3)
    write(bundle, tmp_path / "adapter")
    again = BertForSequenceClassification.from_pretrained(base, num_labels=3).eval()
    lora.load_adapter(again, tmp_path / "adapter")
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits, **MODEL)


def test_weights_are_read_some_rows_at_a_time_and_the_bar_sees_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, model = save(llama(), tmp_path / "base"), llama()
    folded(model, ["q_proj"])
    tuned = save(model, tmp_path / "tuned")
    expected = lora.extract(base, tuned, rank=4).bundle.tensors
    sizes, told = [], []
    read_rows = BaseCheckpoint.read_rows

    def recorded(checkpoint: BaseCheckpoint, name: str, start: int, stop: int) -> Tensor:
        rows = read_rows(checkpoint, name, start, stop)
        sizes.append(rows.nbytes)
        return rows

    @contextmanager
    def bar(size: int) -> Iterator[Callable[[int], None]]:
        told.append(-size)
        yield told.append

    monkeypatch.setattr(differences, "_BLOCK_BYTES", 1024)
    monkeypatch.setattr(BaseCheckpoint, "read_rows", recorded)
    found = lora.extract(base, tuned, rank=4, bar=bar).bundle.tensors
    assert max(sizes) <= 1024
    assert sum(told) == 0
    assert told[0] < -16 * 32 * 32
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_hub_id_is_refused_with_what_to_do(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    match = r"org/name is not there.*hf download org/name --local-dir DIR"
    for pair in ((base, "org/name"), ("org/name", base)):
        with pytest.raises(FormatError, match=match):
            lora.extract(*pair, rank=4)


def test_the_base_in_another_precision_is_no_change(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    rounded = llama().to(torch.bfloat16)
    narrow = save(rounded, tmp_path / "narrow")
    wide = save(rounded.float(), tmp_path / "wide")
    for one, other in ((base, narrow), (narrow, wide), (wide, narrow)):
        with pytest.raises(MismatchError, match="have the same weights"):
            lora.extract(one, other, rank=4)


def test_changes_below_the_precision_of_the_base_are_found(tmp_path: Path) -> None:
    model = llama().to(torch.bfloat16)
    base = save(model, tmp_path / "base")
    tuned = model.float()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "norm" in name or "q_proj" in name:
                parameter.mul_(1.001)
    found = lora.extract(base, save(tuned, tmp_path / "tuned"), rank=32, keep_rest=True).bundle
    assert len(found.adapters) == 2
    after = tuned.state_dict()
    assert {name for name in after if "norm" in name} == found.trained.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in found.trained.items())
    with pytest.raises(MismatchError, match=r"norm\.weight has changed"):
        lora.extract(base, tmp_path / "tuned", rank=2)


def test_other_shapes_and_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    base = save(BertModel(BertConfig(**SIZES, intermediate_size=48)), tmp_path / "base")
    other = save(BertModel(BertConfig(**SIZES, intermediate_size=56)), tmp_path / "other")
    with pytest.raises(MismatchError) as caught:
        lora.extract(base, other, rank=4)
    assert any(
        "encoder.layer.{0,1}.intermediate.dense.weight has shape (56, 32), and (48, 32)" in problem
        for problem in caught.value.problems
    )
    model = llama()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 3] = torch.nan
    tuned, plain = save(model, tmp_path / "nan"), save(llama(), tmp_path / "plain")
    with pytest.raises(FormatError, match=r"up_proj\.weight has NaN or infinite values"):
        lora.extract(plain, tuned, rank=4)


def test_bad_input_is_refused_before_a_model_is_built(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    with pytest.raises(ConfigError, match="pass rank or energy"):
        lora.extract(base, base)
    with pytest.raises(FormatError, match="nowhere is not there"):
        lora.extract(base, tmp_path / "nowhere", rank=4)
    tuned = save(llama(), tmp_path / "tuned")
    (tuned / "adapter_config.json").write_text("{}")
    with pytest.raises(FormatError, match=r"tuned holds an adapter \(adapter_config\.json\)"):
        lora.extract(base, tuned, rank=4)
