"""A merged model is a plain one on disk, whole or not there."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

import lorakit as lora
from lorakit.inference.session import LoadOptions, open_session
from lorakit.locks import exclusive
from lorakit.merging import merge_files
from lorakit.tasks.classification import Classification
from lorakit.tasks.task_file import save_task
from tests.models.test_loading import SMALL, classifier_adapter


@pytest.fixture
def masked_lm(tmp_path: Path) -> Path:
    BertForMaskedLM(BertConfig(**SMALL)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_merge_of_tied_embeddings_unties_them_on_disk(tmp_path):
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "base").eval()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["wte"], init_lora_weights=False))
    lora.save_adapter(model, tmp_path / "adapter")
    ids = torch.arange(8)[None]
    with torch.no_grad():
        expected = model(ids).logits
    merge_files(str(tmp_path / "adapter"), None, tmp_path / "merged")
    merged = GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()
    assert merged.lm_head.weight.data_ptr() != merged.transformer.wte.weight.data_ptr()
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, expected)


def test_merge_needs_a_base(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    lora.save_adapter(model, tmp_path / "adapter")
    with pytest.raises(lora.errors.ConfigError, match="--base"):
        merge_files(str(tmp_path / "adapter"), None, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The operating system refuses larger ones, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failing_save_leaves_nothing_behind(masked_lm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    before = sorted(entry.name for entry in tmp_path.iterdir())
    with files_of_at_most(8192), pytest.raises(lora.errors.SaveError, match="File too large"):
        merge_files(str(adapter), str(masked_lm), tmp_path / "merged")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_a_failure_beside_the_weights_is_a_save_error(masked_lm, tmp_path, monkeypatch):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BertConfig, "save_pretrained", full_disk)
    with pytest.raises(lora.errors.SaveError, match="No space left"):
        merge_files(str(adapter), str(masked_lm), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_second_merge_into_one_place_is_told_who_makes_it(masked_lm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    output = tmp_path / "merged"
    with (
        exclusive(tmp_path / ".merged.new", output),
        pytest.raises(lora.errors.SaveError, match=r"merged is being written by process \d+ on"),
    ):
        merge_files(str(adapter), str(masked_lm), output)
    assert not output.exists()


def test_what_a_killed_merge_left_is_gone_after_the_next(masked_lm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    left = tmp_path / ".merged.new" / "merged"
    left.mkdir(parents=True)
    (left / "half.safetensors").write_bytes(b"half")
    with pytest.warns(lora.errors.LorakitWarning, match="was interrupted; what it left is removed"):
        merge_files(str(adapter), str(masked_lm), tmp_path / "merged")
    assert not left.parent.exists()
    assert "half.safetensors" not in {file.name for file in (tmp_path / "merged").iterdir()}


# --- the tokenizer, and what else is beside the weights


def test_the_adapters_own_tokenizer_and_template_are_merged(masked_lm, minilm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    AutoTokenizer.from_pretrained(minilm).save_pretrained(masked_lm)
    own = AutoTokenizer.from_pretrained(minilm)
    own.add_tokens(["<gene>"])
    own.chat_template = "{{ messages }}"
    own.save_pretrained(adapter)
    report = merge_files(str(adapter), str(masked_lm), tmp_path / "merged")
    assert report.tokenizer == str(adapter)
    merged = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert merged.tokenize("a <gene>") == ["a", "<gene>"]
    assert merged.chat_template == own.chat_template


def test_an_adapter_without_a_tokenizer_gets_the_bases(masked_lm, minilm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    base = AutoTokenizer.from_pretrained(minilm)
    base.save_pretrained(masked_lm)
    (masked_lm / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    report = merge_files(str(adapter), str(masked_lm), tmp_path / "merged")
    assert report.tokenizer == str(masked_lm)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("a joy") == base("a joy")
    assert (tmp_path / "merged" / "preprocessor_config.json").read_text() == '{"image_mean": [0.5]}'


def put_on_the_hub(files: Path, name: str, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """As the Hub's cache has a repository of org that was downloaded."""
    cache, commit = place / "hub" / f"models--org--{name}", "0" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(files, cache / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place / "hub"))


def test_an_adapter_on_the_hub_brings_its_tokenizer_and_labels(
    masked_lm, minilm, tmp_path, monkeypatch
):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    AutoTokenizer.from_pretrained(minilm).save_pretrained(adapter)
    save_task(Classification(("text",), "label", 40, ("bad", "fair", "good")), adapter)
    put_on_the_hub(adapter, "adapter", monkeypatch, tmp_path)
    report = merge_files("org/adapter", str(masked_lm), tmp_path / "merged")
    assert report.tokenizer == "org/adapter"
    config = BertForSequenceClassification.from_pretrained(tmp_path / "merged").config
    assert list(config.id2label.values()) == ["bad", "fair", "good"]
    session = open_session("org/adapter", LoadOptions(base=str(masked_lm)))
    assert session.task.class_names == ("bad", "fair", "good")
    assert session.tokenizer("a joy")["input_ids"]


def test_a_base_on_the_hub_gives_its_tokenizer_too(masked_lm, minilm, tmp_path, monkeypatch):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    AutoTokenizer.from_pretrained(minilm).save_pretrained(masked_lm)
    put_on_the_hub(masked_lm, "base", monkeypatch, tmp_path)
    report = merge_files(str(adapter), "org/base", tmp_path / "merged")
    assert report.tokenizer == "org/base"
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("a joy")["input_ids"]


def test_without_any_tokenizer_the_merged_model_has_none_and_says_so(masked_lm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    report = merge_files(str(adapter), str(masked_lm), tmp_path / "merged")
    assert report.tokenizer is None
    assert "tokenizer: none" in str(report)
    assert not list((tmp_path / "merged").glob("tokenizer*"))
