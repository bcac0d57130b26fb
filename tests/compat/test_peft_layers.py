"""`layers_to_transform` and `layers_pattern` select what PEFT selects."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import peft
import pytest
import torch
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.checkpoint.formats.peft.config_decoding import decode_config
from lorakit.errors import FormatError
from lorakit.injection.selection.matching import target_names
from tests.injection import zoo
from tests.injection.checks import outputs
from tests.tolerances import MODEL

NAMES = [
    "foo.bar.1.baz",
    "foo.bar.10.baz",
    "foo.bar.001.baz",
    "bar.1.baz",
    "foo.bar.1.spam.2.baz",
    "foo.bar.2.spam.1.baz",
    "mlp.blocks.1.weight",
    "mlp.blocks.1.bias",
    "blocks.1.weight",
    "transformer.h.1.attn.attention.q_proj",
    "transformer.h.1.attn.attention.q_proj.foo",
    "transformer.h.1.attn.attention.resid_dropout",
    "model.layers.0.mlp.experts.1.q_proj",
    "model.layers.1.mlp.experts.0.q_proj",
    "foo.whatever.1.baz",
    "foo.q_proj",
]
TARGETS = [["baz"], ["baz", "spam"], ["q_proj"], ["q_proj", "v_proj"], ["weight"], ["nothing"]]
FULL = [[name] for name in NAMES]
LAYERS = [None, [0], [1], [2], [0, 1, 2], [10], 0, 1]
LISTS = ["bar", ["bar"], ["h"], ["blocks"], ["layers"], ["experts"], ["spam", "bar"], ["foo"]]
WITHOUT = [None, [], ""]


def model_of(name: str) -> nn.Module:
    """A model with a module of this name."""
    root = nn.Module()
    owner = root
    *parents, last = name.split(".")
    for part in parents:
        child = nn.Module()
        owner.add_module(part, child)
        owner = child
    owner.add_module(last, nn.Linear(2, 2))
    return root


MODELS = {name: model_of(name) for name in NAMES}


def agrees(name: str, targets: list[str], layers: object, lists: object) -> bool:
    fields = {"target_modules": targets, "layers_to_transform": layers, "layers_pattern": lists}
    theirs = peft.LoraConfig(target_modules=targets, layers_to_transform=layers)
    theirs.layers_pattern = lists  # PEFT's constructor refuses one without layers
    expected = bool(check_target_module_exists(theirs, name))
    ours = decode_config({"peft_type": "LORA", "r": 2} | fields)
    return (name in target_names(MODELS[name], ours)[0]) == expected


@pytest.mark.parametrize("lists", [*LISTS, *WITHOUT], ids=str)
def test_the_same_modules_are_selected_as_by_peft(lists: object) -> None:
    """But for a number with one name before it, which PEFT only sees with a pattern."""
    rows = product(NAMES, TARGETS + FULL, LAYERS, [lists])
    late = {"bar.1.baz", "blocks.1.weight"} if lists in WITHOUT else set()
    differing = [row for row in rows if not agrees(*row)]
    assert {name for name, *_ in differing} <= late


@pytest.mark.parametrize("pattern", ["h.*", "(h)", "la?yers", ["h", "a|b"]])
def test_pattern_that_is_no_name_is_refused(pattern: object) -> None:
    raw = {"peft_type": "LORA", "r": 2, "target_modules": ["q"], "layers_to_transform": [0]}
    with pytest.raises(FormatError, match=r"layers_pattern is .*; it must list names such as"):
        decode_config(raw | {"layers_pattern": pattern})


def test_adapter_of_peft_with_a_layers_pattern_is_loaded(tmp_path: Path) -> None:
    case = zoo.CASES["llama"]
    config = peft.LoraConfig(
        r=2,
        target_modules=["q_proj"],
        layers_to_transform=[1],
        layers_pattern="layers",
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(case.build(), config).eval()
    theirs.save_pretrained(tmp_path)
    ours = case.build()
    report = lora.load_adapter(ours, tmp_path)
    assert [layer.name for layer in report.adapter.layers] == ["model.layers.1.self_attn.q_proj"]
    assert_close(outputs(case, ours), outputs(case, theirs), **MODEL)


def test_layers_pattern_selects_the_layers_of_one_list() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "stages": nn.ModuleList(
                nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 2) for _ in range(3))})
                for _ in range(2)
            )
        }
    )
    # a name that ends in its number is that of the layer itself, and listed in full stays
    for stage in model["stages"]:
        for layer in stage["layers"]:
            layer.add_module("q", nn.Linear(2, 2))
    config = lora.LoraConfig(
        r=1, target_modules=["q"], layers_to_transform=2, layers_pattern="layers"
    )
    report = lora.inject(model, config)
    assert [layer.name for layer in report.layers] == [
        "stages.0.layers.2.q",
        "stages.1.layers.2.q",
    ]
