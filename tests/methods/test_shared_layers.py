"""What the methods make of layers that share their weights, as ALBERT's do."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AlbertForSequenceClassification, BertModel

from lorakit.errors import TargetError
from lorakit.methods import METHODS, find
from tests.methods.bottlenecks import BERT, DROPOUT, HEAD, TINY, bert, on_meta, randomise, tokens


def albert(groups: int = 1) -> nn.Module:
    """Six layers, of which those of a group are one module."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 16, "num_hidden_layers": 6, "num_hidden_groups": groups}
    dropout = {**DROPOUT, "classifier_dropout_prob": 0.0}
    return AlbertForSequenceClassification(
        AlbertConfig(max_position_embeddings=16, **sizes, **dropout, **TINY)
    )


@pytest.mark.parametrize(("groups", "runs"), [(1, 6), (2, 3)])
@pytest.mark.parametrize("dropped", [None, 0])
def test_adapter_drop_of_shared_layers_is_refused(groups, runs, dropped):
    model, method = albert(groups), find("adapter_drop")
    with pytest.raises(TargetError, match=rf"share their weights: .*runs {runs} times.*pfeiffer"):
        method.apply(model, method.config_type(dropped=dropped), HEAD)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("layers", "dropped"), [(2, 1), (3, 1), (6, 2), (12, 5)])
def test_adapter_drop_drops_at_least_one_layer(layers, dropped):
    config = type(BERT)(**{**BERT.to_dict(), "num_hidden_layers": layers})
    model, method = on_meta(config), find("adapter_drop")
    method.apply(model, method.default_config(), HEAD)
    adapted = {n.split(".")[3] for n, p in model.named_parameters() if ".adapter." in n}
    assert adapted == {str(layer) for layer in range(dropped, layers)}


def test_adapter_drop_of_one_layer_is_refused():
    config = type(BERT)(**{**BERT.to_dict(), "num_hidden_layers": 1})
    method = find("adapter_drop")
    with pytest.raises(TargetError, match="has 1 layers, and one of them has to keep its adapter"):
        method.apply(on_meta(config), method.default_config(), HEAD)


def test_the_last_of_shared_layers_are_refused():
    method = find("last_layers")
    with pytest.raises(TargetError, match=r"share their weights: .* runs 6 times.*full or lora"):
        method.apply(albert(), method.config_type(count=1), HEAD)


def test_the_last_layers_of_a_list_that_repeats_one_are_refused():
    model = BertModel(BERT)
    model.encoder.layer = nn.ModuleList([model.encoder.layer[0]] * 3)
    method = find("last_layers")
    with pytest.raises(TargetError, match=r"encoder.layer.0 runs 3 times"):
        method.apply(model, method.config_type(count=1))


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        ("houlsby", {"bottleneck": 3}, 2 * (2 * 16 * 3 + 3 + 16)),
        ("pfeiffer", {"bottleneck": 3}, 2 * 16 * 3 + 3 + 16),
        ("lin", {"bottleneck": 3}, 2 * 16 * 3 + 3 + 16 + 2 * 16),
        ("prefix_layer", {"prefix": 3}, 3 * 16),
    ],
)
def test_shared_layers_share_what_is_added_and_it_trains(name, settings, parameters):
    model, method, inputs = albert().train(), find(name), tokens()
    report = method.apply(model, method.config_type(**settings), HEAD)
    assert report.adapter_parameters == parameters
    randomise(model)
    model(**inputs).loss.backward()
    moved = [p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad]
    assert all(moved)


def test_prefix_layers_of_a_list_that_repeats_one_are_those_of_one():
    model = bert()
    model.bert.encoder.layer = nn.ModuleList([model.bert.encoder.layer[0]] * 3)
    method = find("prefix_layer")
    report = method.apply(model, method.config_type(prefix=3), HEAD)
    assert report.adapter_parameters == 3 * 16
    model(**tokens()).loss.backward()
    method.undo(model)
    assert type(model.bert.encoder.layer[2]).__name__ == "BertLayer"


def test_a_pruned_model_whose_config_counts_more_layers_is_no_shared_one():
    model = bert()
    del model.bert.encoder.layer[2]
    assert model.config.num_hidden_layers == 3
    for name in ("last_layers", "adapter_drop"):
        method = METHODS[name]
        own = {"last_layers": {"count": 1}, "adapter_drop": {"dropped": 1}}[name]
        method.apply(model, method.config_type(**own), HEAD)
        method.undo(model)
