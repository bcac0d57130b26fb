"""Which parameter names stand for one memory."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lorakit.surgery.ties import storage_key, tied_names


def test_a_model_without_ties_has_none():
    assert tied_names(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3))) == []


def test_one_parameter_under_several_names_is_one_group_in_model_order():
    model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(4)))
    model[2].weight = model[1].weight
    model[3].weight = model[1].weight
    assert tied_names(model) == [("1.weight", "2.weight", "3.weight")]


def test_two_parameters_over_one_memory_are_tied():
    a, b = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    b.weight = nn.Parameter(a.weight.data)
    assert a.weight is not b.weight
    assert tied_names(nn.Sequential(a, b)) == [("0.weight", "1.weight")]


def test_a_transposed_view_is_tied():
    a, b = nn.Linear(3, 5, bias=False), nn.Linear(5, 3, bias=False)
    b.weight = nn.Parameter(a.weight.data.t())
    assert tied_names(nn.Sequential(a, b)) == [("0.weight", "1.weight")]


def test_a_shared_module_is_tied_in_all_its_parameters():
    shared = nn.Linear(3, 3)
    assert tied_names(nn.Sequential(shared, shared)) == [
        ("0.weight", "1.weight"),
        ("0.bias", "1.bias"),
    ]


def test_equal_numbers_in_other_memory_are_not_tied():
    layer = nn.Linear(3, 3)
    assert tied_names(nn.Sequential(layer, copy.deepcopy(layer))) == []


def test_ties_are_those_of_names_on_the_meta_device():
    a, b = nn.Linear(3, 3, bias=False, device="meta"), nn.Linear(3, 3, bias=False, device="meta")
    assert tied_names(nn.Sequential(a, b)) == []
    b.weight = a.weight
    assert tied_names(nn.Sequential(a, b)) == [("0.weight", "1.weight")]


def test_empty_parameters_are_not_tied():
    model = nn.ParameterList([nn.Parameter(torch.empty(0)), nn.Parameter(torch.empty(0, 3))])
    assert tied_names(model) == []


def test_a_deep_copy_keeps_the_tie_and_shares_nothing_with_the_original():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    other = copy.deepcopy(model)
    assert tied_names(other) == tied_names(model) == [("0.weight", "1.weight")]
    assert storage_key(other[0].weight) != storage_key(model[0].weight)


def test_transformers_ties_are_found():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, n_positions=8, vocab_size=20)
    assert tied_names(GPT2LMHeadModel(config)) == [("transformer.wte.weight", "lm_head.weight")]


def test_views_of_one_buffer_at_different_places_are_not_tied() -> None:
    buffer = torch.randn(8)
    model = nn.ParameterDict({"a": nn.Parameter(buffer[:4]), "b": nn.Parameter(buffer[4:])})
    assert tied_names(model) == []
