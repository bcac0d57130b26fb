"""The base comes in the class and with the labels that its adapter needs, or not at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.merging import merge_files
from lorakit.models.loading import load_base, meta_model
from lorakit.models.positions import length_limit

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}


@pytest.fixture
def masked_lm(tmp_path: Path) -> Path:
    """A BERT with the head it was pretrained with, on disk."""
    BertForMaskedLM(BertConfig(**SMALL)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def classifier_adapter(base: Path, path: Path, labels: int = 3) -> Path:
    model = BertForSequenceClassification.from_pretrained(base, num_labels=labels)
    lora.inject(
        model,
        lora.LoraConfig(r=2, modules_to_save=["classifier", "pooler"], init_lora_weights=False),
    )
    return lora.save_adapter(model, path)


def test_the_meta_model_has_shapes_and_no_weights(masked_lm):
    model = meta_model(str(masked_lm))
    assert isinstance(model, BertForMaskedLM)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_load_base_gives_the_class_and_labels_of_the_adapter(masked_lm, tmp_path):
    bundle = read(classifier_adapter(masked_lm, tmp_path / "adapter"))
    model = load_base(str(masked_lm), bundle=bundle)
    assert isinstance(model, BertForSequenceClassification)
    assert model.config.num_labels == 3
    assert lora.load_adapter(model, tmp_path / "adapter").base_verified is True


def test_load_base_without_an_adapter_is_the_bases_own_class(masked_lm):
    assert isinstance(load_base(str(masked_lm)), BertForMaskedLM)


def test_load_base_refuses_weights_that_nobody_brings(tmp_path):
    BertForMaskedLM(BertConfig(**SMALL)).bert.save_pretrained(tmp_path / "base")
    model = BertForMaskedLM(BertConfig(**SMALL))
    lora.inject(model, lora.LoraConfig(r=2))
    lora.save_adapter(model, tmp_path / "adapter")
    with pytest.raises(
        lora.errors.MismatchError,
        match=r"cls.predictions.* newly initialized: it is missing from the base checkpoint and",
    ):
        load_base(str(tmp_path / "base"), bundle=read(tmp_path / "adapter"))


def test_load_base_refuses_another_architecture(masked_lm, tmp_path):
    model = RobertaForSequenceClassification(RobertaConfig(**SMALL, num_labels=3))
    lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    lora.save_adapter(model, tmp_path / "adapter")
    with pytest.raises(lora.errors.MismatchError, match="the base is a bert model"):
        load_base(str(masked_lm), bundle=read(tmp_path / "adapter"))


@pytest.mark.parametrize("loader", [meta_model, load_base])
def test_a_directory_without_a_model_is_named(loader, tmp_path):
    with pytest.raises(lora.errors.FormatError, match=r"has no config\.json"):
        loader(str(tmp_path))


def test_a_base_without_its_weights_is_named(tmp_path):
    BertConfig(**SMALL, architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    with pytest.raises(lora.errors.FormatError, match="cannot be loaded"):
        load_base(str(tmp_path))


def test_without_transformers_the_extra_is_named(monkeypatch, masked_lm):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(lora.errors.MissingDependencyError, match=r"lorakit\[transformers\]"):
        load_base(str(masked_lm))


# --- heads of another size, and configs that are broken


def bart(labels: int) -> BartForSequenceClassification:
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 50}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ffn = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 40}
    config = BartConfig(**sizes, **heads, **ffn, num_labels=labels)
    return BartForSequenceClassification(config)


def bert(labels: int) -> BertForSequenceClassification:
    return BertForSequenceClassification(BertConfig(**SMALL, num_labels=labels))


def question_answering(labels: int) -> BertForQuestionAnswering:
    return BertForQuestionAnswering(BertConfig(**SMALL, num_labels=labels))


def other_labels(
    build: Callable[[int], PreTrainedModel], targets: list[str], head: str, path: Path
) -> tuple[Path, Path]:
    """A base with three labels, and an adapter of it that brings a head with five."""
    torch.manual_seed(0)
    build(3).save_pretrained(path / "base")
    model = type(build(5)).from_pretrained(
        path / "base", num_labels=5, ignore_mismatched_sizes=True
    )
    config = lora.LoraConfig(
        r=2, target_modules=targets, modules_to_save=[head], init_lora_weights=False
    )
    lora.inject(model, config)
    return path / "base", lora.save_adapter(model, path / "adapter")


def without_header(adapter: Path) -> None:
    """As PEFT writes it: nothing says the number of labels."""
    file = adapter / "adapter_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("header", [True, False], ids=["ours", "without a header"])
@pytest.mark.parametrize(
    ("build", "targets", "head"),
    [
        (bert, ["query"], "classifier"),
        (bart, ["q_proj"], "classification_head"),
        (question_answering, ["query"], "qa_outputs"),
    ],
)
def test_head_of_the_adapter_replaces_the_bases(build, targets, head, header, tmp_path):
    base, adapter = other_labels(build, targets, head, tmp_path)
    if not header:
        without_header(adapter)
        path = adapter / "adapter_config.json"
        mapping = {
            "base_model_class": type(build(5)).__name__,
            "parent_library": type(build(5)).__module__,
        }
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_mapping": mapping}))
    assert read(adapter).num_labels == (5 if header else None)
    report = merge_files(str(adapter), str(base), tmp_path / "merged")
    assert report.base_verified is (True if header else None)
    merged = type(build(5)).from_pretrained(tmp_path / "merged")
    assert merged.config.num_labels == 5
    for name, tensor in read(adapter).trained.items():
        assert torch.equal(merged.state_dict()[name], tensor), name


def test_number_of_labels_is_saved_with_a_head_only(masked_lm, tmp_path):
    model = bert(7)
    lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    assert read(lora.save_adapter(model, tmp_path / "head")).num_labels == 7
    lora.eject(model)
    lora.inject(model, lora.LoraConfig(r=2))
    assert read(lora.save_adapter(model, tmp_path / "none")).num_labels is None


def test_weights_of_another_shape_that_the_adapter_does_not_bring_are_listed(tmp_path):
    base, adapter = other_labels(bert, ["query"], "classifier", tmp_path)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 60}))
    with pytest.raises(lora.errors.MismatchError) as caught:
        load_base(str(base), bundle=read(adapter))
    (problem,) = caught.value.problems
    assert problem.startswith(
        "bert.embeddings.word_embeddings.weight has a size mismatch: expected"
    )
    assert "got (50, 16) in the base checkpoint" in problem


@pytest.mark.parametrize("loader", [meta_model, load_base])
@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "x"},
        {"num_attention_heads": 7},
        {"hidden_act": "nothing"},
        {"num_hidden_layers": None},
        {"id2label": 3},
    ],
    ids=str,
)
def test_a_broken_config_is_one_error(loader, change, masked_lm):
    file = masked_lm / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(lora.errors.FormatError, match=str(masked_lm)):
        loader(str(masked_lm))


def test_roberta_has_no_positions_for_its_first_rows(tmp_path):
    """The limit is the longest input that the model itself takes."""
    model = RobertaForSequenceClassification(RobertaConfig(**SMALL, num_labels=3)).eval()
    model.save_pretrained(tmp_path)
    limit = length_limit(str(tmp_path))
    assert limit == 38
    model(torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))


def test_a_bert_reads_as_many_tokens_as_it_has_positions(masked_lm):
    assert length_limit(str(masked_lm)) == 40
