"""A vocabulary that was resized after loading: what the new rows are, and that heads still load."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

import lorakit as lora
from lorakit.errors import MismatchError, TargetError
from lorakit.private.transformers_names import count_as_loaded
from tests.injection import zoo

QUERY = lora.LoraConfig(r=2, target_modules=["q_proj"])


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def resized(request: Any, tmp_path: Path) -> nn.Module:
    """40 rows in the checkpoint, 43 in the model."""
    zoo.llama(tie_word_embeddings=request.param).save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.resize_token_embeddings(43)
    return model


def test_the_report_names_new_rows_that_stay_random(resized: nn.Module) -> None:
    report = lora.inject(resized, QUERY)
    both = {"model.embed_tokens": (40, 41, 42), "lm_head": (40, 41, 42)}
    assert report.random_rows == both
    line = (
        "random and frozen, rows that the checkpoint lacks (trainable_token_indices trains them): "
        "model.embed_tokens 40-42, lm_head 40-42"
    )
    assert line in str(report)


def test_rows_that_train_are_not_called_random(resized: nn.Module) -> None:
    tied = resized.config.tie_word_embeddings
    report = lora.inject(resized, QUERY.replace(trainable_token_indices=[40, 41, 42]))
    assert report.random_rows == ({} if tied else {"lm_head": (40, 41, 42)})
    lora.eject(resized)
    rows = {"embed_tokens": [40, 42], "lm_head": [40, 42]}
    report = lora.inject(resized, QUERY.replace(trainable_token_indices=rows))
    assert set(report.random_rows.values()) == {(41,)}
    lora.eject(resized)
    report = lora.inject(resized, QUERY.replace(modules_to_save=["embed_tokens", "lm_head"]))
    assert report.random_rows == {}


def test_a_vocabulary_of_its_own_size_has_no_random_rows(tmp_path: Path) -> None:
    zoo.llama().save_pretrained(tmp_path)
    assert lora.inject(zoo.llama(), QUERY).random_rows == {}
    assert lora.inject(AutoModelForCausalLM.from_pretrained(tmp_path), QUERY).random_rows == {}


def test_a_table_that_is_larger_than_its_config_says_was_not_resized(tmp_path: Path) -> None:
    """Some architectures have rows beyond the vocabulary."""
    zoo.llama().save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.model.embed_tokens = nn.Embedding(48, 16)
    model.lm_head = nn.Linear(16, 48, bias=False)
    for parameter in model.parameters():
        count_as_loaded(parameter)
    assert lora.inject(model, QUERY).random_rows == {}


def test_a_model_with_a_config_of_its_own_was_not_resized() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model.config = SimpleNamespace(name_or_path="mine", vocab_size=3)
    report = lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    assert report.random_rows == {}


def test_a_head_that_the_checkpoint_lacks_is_still_refused_after_resizing(tmp_path: Path) -> None:
    zoo.bert("BertModel").save_pretrained(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, tie_word_embeddings=False)
    model.resize_token_embeddings(43)
    with pytest.raises(TargetError, match=r"decoder\.weight is newly initialized"):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["query"]))


def test_a_head_of_another_vocabulary_is_no_matter_of_labels(tmp_path: Path) -> None:
    model = zoo.llama(vocab_size=43)
    lora.inject(model, QUERY.replace(modules_to_save=["embed_tokens", "lm_head"]))
    lora.save_adapter(model, tmp_path)
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(zoo.llama(), tmp_path, check_base=False)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert (
            f"{name} has a size mismatch: expected (40, 16), got (43, 16); call "
            "model.resize_token_embeddings(43) first" in caught.value.problems
        )


def test_an_adapted_vocabulary_of_another_size_says_how_to_resize(tmp_path: Path) -> None:
    model = zoo.llama(vocab_size=43)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["embed_tokens", "lm_head"]))
    lora.save_adapter(model, tmp_path)
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(zoo.llama(), tmp_path, check_base=False)
    assert str(caught.value).count("call model.resize_token_embeddings(43) first") == 2


def test_a_classification_head_still_speaks_of_labels(tmp_path: Path) -> None:
    model = zoo.roberta(num_labels=5)
    lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    lora.save_adapter(model, tmp_path)
    with pytest.raises(MismatchError, match="load the base with num_labels=5"):
        lora.load_adapter(zoo.roberta(num_labels=3), tmp_path)


def test_other_tables_speak_of_neither(tmp_path: Path) -> None:
    model = zoo.roberta(max_position_embeddings=40)
    lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["position_embeddings"]))
    lora.save_adapter(model, tmp_path)
    with pytest.raises(MismatchError, match=r"got \(40, 16\)\n"):
        lora.load_adapter(zoo.roberta(), tmp_path)
