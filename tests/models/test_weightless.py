"""The model that a base would be loaded as, without its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertForSequenceClassification, LlamaForCausalLM

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import FormatError
from lorakit.models.weightless import give_values, vocabulary_tensors, weightless_model
from lorakit.surgery.ties import tied_names
from tests.merging import models


def test_it_has_the_class_and_the_labels_of_the_adapter_and_no_weights(tmp_path: Path) -> None:
    base = models.save(models.bert, tmp_path / "base")
    model = weightless_model(str(base), bundle=AdapterBundle(task_type="SEQ_CLS", num_labels=7))
    assert type(model) is BertForSequenceClassification
    assert model.classifier.out_features == 7
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not model.training


def test_values_are_given_to_all_that_is_tied(tmp_path: Path) -> None:
    base = models.save(lambda: models.llama(True), tmp_path / "base")
    model = weightless_model(str(base))
    assert type(model) is LlamaForCausalLM
    names = vocabulary_tensors(model)
    assert set(names) == {"model.embed_tokens.weight", "lm_head.weight"}
    give_values(model, {"model.embed_tokens.weight": torch.ones(50, 16)})
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert tied_names(model) == [("model.embed_tokens.weight", "lm_head.weight")]
    assert model.lm_head.weight.sum() == 800


def test_config_that_no_model_is_built_from_is_one_error(tmp_path: Path) -> None:
    base = models.save(models.bert, tmp_path / "base")
    config = base / "config.json"
    config.write_text(
        config.read_text().replace('"num_attention_heads": 2', '"num_attention_heads": 7')
    )
    with pytest.raises(FormatError, match="base"):
        weightless_model(str(base))
