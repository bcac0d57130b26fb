"""One forward of a doubled batch, on the architectures of sequence classification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from lorakit.errors import ConfigError, StateError
from lorakit.losses import LOSSES, LossConfig
from lorakit.losses.consistency import consistency_loss
from lorakit.models.embeddings import embedding_module, second_half_edited
from lorakit.tasks.classification import Classification
from lorakit.tasks.generation import Generation
from lorakit.tasks.regression import Regression
from tests.tolerances import MODEL
from tests.training import tiny

_WIDTHS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
_SEQ2SEQ: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 3,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("AlbertEmbeddings", {**_WIDTHS, "embedding_size": 8}),
    "bart": ("BartScaledWordEmbedding", _SEQ2SEQ),
    "bert": ("BertEmbeddings", _WIDTHS),
    "deberta": ("DebertaEmbeddings", _WIDTHS),
    "deberta-v2": ("DebertaV2Embeddings", _WIDTHS),
    "distilbert": ("Embeddings", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    "electra": ("ElectraEmbeddings", {**_WIDTHS, "embedding_size": 8}),
    "fnet": ("FNetEmbeddings", _WIDTHS),
    "gpt2": ("Embedding", {"n_embd": 16, "n_layer": 2, "n_head": 2}),
    "ibert": ("IBertEmbeddings", _WIDTHS),
    "llama": ("Embedding", {**_WIDTHS, "num_key_value_heads": 1}),
    "longformer": ("LongformerEmbeddings", {**_WIDTHS, "attention_window": 4}),
    "modernbert": ("ModernBertEmbeddings", _WIDTHS),
    "mpnet": ("MPNetEmbeddings", _WIDTHS),
    "roberta": ("RobertaEmbeddings", _WIDTHS),
    "t5": (
        "Embedding",
        {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "decoder_start_token_id": 0},
    ),
    "xlm": ("Embedding", {"emb_dim": 16, "n_layers": 2, "n_heads": 2}),
    "xlnet": ("Embedding", {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}),
}
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "vocab_size": 50}
CUTOFFS = ["cutoff_token", "cutoff_feature", "cutoff_span"]
TASK = Classification(("text",), "label", 40, ("a", "b", "c"))


def _type_of(config_class: Any) -> str:
    return str(config_class.model_type)


def classifier(name: str, labels: int = 3) -> Any:
    """A random model of this type, without dropout."""
    settings = {**_IDS, **ARCHITECTURES[name][1], "num_labels": labels}
    config = transformers.AutoConfig.for_model(name, **settings)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.3)  # so that what is cut can be seen in the logits
    return model


def batch_of(model: Any, labels: int = 3) -> dict[str, torch.Tensor]:
    """As many examples as half the tokens, so that no shape tells which dimension is which."""
    ids = torch.randint(5, 49, (5, 10))
    ids[:, -1] = 3
    mask = torch.ones_like(ids)
    target = torch.randn(5) if labels == 1 else torch.arange(5) % labels
    known = model.config.model_type != "fnet"  # it has no attention to mask
    return {"input_ids": ids, "labels": target} | ({"attention_mask": mask} if known else {})


@pytest.fixture
def passes(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The logits of both passes of every loss that is computed."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(z1, z2, y, **weights):
        seen.append((z1, z2))
        return (z1 - z2).square().sum() + z1.sum()

    for name, loss in LOSSES.items():
        if loss.combine is not None:
            monkeypatch.setitem(LOSSES, name, replace(loss, combine=keep))
    return seen


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_computes_both_passes_in_one_forward(name, passes):
    model = classifier(name)
    batch = batch_of(model)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        plain = model(**inputs).logits
        for config in (LossConfig("rdrop"), *(LossConfig(kind, ratio=0.3) for kind in CUTOFFS)):
            consistency_loss(config, model, TASK, None)(model, batch)
    (same, again), *cut = passes
    torch.testing.assert_close(same, plain, **MODEL)
    torch.testing.assert_close(again, plain, **MODEL)
    for z1, z2 in cut:
        torch.testing.assert_close(z1, plain, **MODEL)
        assert (z2 - plain).abs().max() > 1e-4
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_embeddings_of_the_second_half_are_what_is_edited(name):
    model = classifier(name)
    embeddings = embedding_module(model)
    assert type(embeddings).__name__ == ARCHITECTURES[name][0]
    shapes = []

    def edit(states):
        shapes.append(tuple(states.shape))
        return states

    ids = batch_of(model)["input_ids"]
    doubled = torch.cat([ids, ids])
    with torch.no_grad(), second_half_edited(model, embeddings, doubled, edit):
        edited = model(input_ids=doubled).logits
        untouched = model(input_ids=doubled).logits
    (shape,) = shapes  # the first call only
    assert shape[0] == 5
    assert shape[1] in (10, 12)  # Longformer fills up its windows
    torch.testing.assert_close(edited, untouched, rtol=0, atol=0)


@pytest.mark.parametrize("kind", CUTOFFS)
def test_a_cutoff_is_two_forwards_of_bert_written_out(kind, passes):
    model = classifier("bert")
    batch = batch_of(model)
    objective = consistency_loss(LossConfig(kind, ratio=0.3), model, TASK, None)
    torch.manual_seed(5)
    with torch.no_grad():
        objective(model, batch)
        torch.manual_seed(5)
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        second, edit = objective.view(inputs, 0.3)
        states = edit(model.bert.embeddings(batch["input_ids"]))
        visible = second["attention_mask"][:, None, None, :].bool()
        hidden = model.bert.encoder(states, attention_mask=visible).last_hidden_state
        by_hand = model.classifier(model.bert.pooler(hidden))
    torch.testing.assert_close(passes[0][1], by_hand, **MODEL)


@pytest.mark.parametrize("kind", ["rdrop", "cutoff_span", "loralib_rdrop"])
def test_dropout_differs_between_the_passes(kind, passes):
    model = classifier("bert").train()
    objective = consistency_loss(LossConfig(kind), model, TASK, None)
    objective(model, batch_of(model))
    z1, z2 = passes[0]
    assert (z1 - z2).abs().max() > 1e-3


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("kind", ["rdrop", *CUTOFFS, "loralib_rdrop", "loralib_cutoff"])
def test_a_loss_is_a_number_with_gradients(kind, labels):
    model = classifier("roberta", labels).train()
    task = Regression(("text",), "label", 40) if labels == 1 else TASK
    loss = consistency_loss(LossConfig(kind), model, task, tiny.tokenizer())(
        model, batch_of(model, labels)
    )
    loss.backward()
    assert loss.isfinite()
    assert loss.ndim == 0
    query = model.roberta.encoder.layer[0].attention.self.query.weight
    assert query.grad.abs().sum() > 0


def test_half_precision_logits_become_float32(passes):
    model = classifier("bert").bfloat16()
    consistency_loss(LossConfig("rdrop"), model, TASK, None)(model, batch_of(model))
    assert {z.dtype for z in passes[0]} == {torch.float32}


def test_loralib_cutoff_spares_the_tokenizers_special_tokens():
    words = tiny.tokenizer()
    view = consistency_loss(LossConfig("loralib_cutoff"), classifier("bert"), TASK, words).view
    ids = torch.tensor([words(" ".join(tiny.GOOD), padding="max_length")["input_ids"]])
    found = view({"input_ids": ids}, 0.999999)[0]["input_ids"][0]
    plain = len(tiny.GOOD)
    assert found[1 : plain + 1].tolist() == [words.unk_token_id] * plain
    assert torch.equal(found[plain + 1 :], ids[0, plain + 1 :])
    assert found[0] == words.cls_token_id


def test_loralib_cutoff_without_an_unknown_token_is_refused():
    words = tiny.tokenizer()
    words.unk_token = None
    with pytest.raises(ConfigError, match="this tokenizer has none"):
        consistency_loss(LossConfig("loralib_cutoff"), classifier("bert"), TASK, words)


def test_plain_is_no_second_pass():
    assert consistency_loss(LossConfig(), classifier("bert"), TASK, None) is None


def test_a_task_without_logits_for_an_example_is_refused():
    with pytest.raises(ConfigError, match="the task generation has none"):
        consistency_loss(LossConfig("rdrop"), None, Generation(("a",), "b", 40), None)


def test_a_model_without_embeddings_of_words_is_refused_for_cutoff_only():
    config = transformers.CanineConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_hash_buckets=16, num_hash_functions=2,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ConfigError, match="no token embeddings"):
        consistency_loss(LossConfig("cutoff_token"), model, TASK, None)
    assert consistency_loss(LossConfig("rdrop"), model, TASK, None) is not None


def test_embeddings_that_are_never_called_are_an_error():
    model = classifier("bart")
    ids = torch.ones(2, 4, dtype=torch.long)
    with (
        pytest.raises(StateError, match="did not call its token embeddings"),
        second_half_edited(model, model.model.shared, ids, lambda states: states),
    ):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config_class", MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, ids=_type_of)
def test_whatever_can_be_built_small_has_both_passes(config_class, passes):
    """All of transformers' architectures; those whose settings have other names are skipped."""
    settings = {**_WIDTHS, **_IDS, "num_key_value_heads": 1, "num_labels": 3}
    try:
        known = {k: v for k, v in settings.items() if hasattr(config_class(), k)}
        config = config_class(**known)
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
        assert sum(weight.numel() for weight in model.parameters()) < 10_000_000
        model = AutoModelForSequenceClassification.from_config(config).eval()
        batch = batch_of(model)
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        with torch.no_grad():
            plain = model(**inputs).logits
        embedding_module(model)
    except Exception as error:
        pytest.skip(f"{type(error).__name__}: {str(error)[:80]}")
    with torch.no_grad():
        for kind in ("rdrop", "cutoff_feature"):
            consistency_loss(LossConfig(kind), model, TASK, None)(model, batch)
    (z1, z2), (clean, cut) = passes
    for z in (z1, z2, clean):
        torch.testing.assert_close(z, plain, **MODEL)
    assert not torch.equal(cut, clean)
