"""`modules_to_save` that names a container: all that is in it comes back, moved or not."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from tests.injection import zoo
from tests.injection.checks import outputs, q_and_v
from tests.tolerances import EXACT

NAMES = ["bert", "roberta", "deberta-v2"]
"""Models whose module `embeddings` holds the table of the vocabulary."""


def move_norm(model: nn.Module) -> None:
    """Train what stands beside the table, and not the table."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "embeddings.LayerNorm" in name:
                parameter.add_(1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moves", [True, False])
def test_table_that_did_not_move_is_still_saved_with_its_container(
    name: str, moves: bool, tmp_path: Path
) -> None:
    case = zoo.CASES[name]
    model = case.build()
    lora.inject(model, q_and_v(case, modules_to_save=["embeddings"]))
    if moves:
        move_norm(model)
    lora.save_adapter(model, tmp_path)
    plain = case.build()
    report = lora.load_adapter(plain, tmp_path).adapter
    assert_close(outputs(case, plain), outputs(case, model), **EXACT)
    assert any(name.endswith("word_embeddings.weight") for name in report.trained)
    again = case.build()
    lora.inject(again, q_and_v(case, modules_to_save=["embeddings"]))
    lora.load_adapter(again, tmp_path)
    assert_close(outputs(case, again), outputs(case, model), **EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_container_that_peft_saves_is_loaded_with_its_table(name: str, tmp_path: Path) -> None:
    case = zoo.CASES[name]
    config = peft.LoraConfig(r=2, target_modules=list(case.targets), modules_to_save=["embeddings"])
    theirs = peft.get_peft_model(case.build(), config)
    move_norm(theirs)
    theirs.save_pretrained(tmp_path)
    ours = case.build()
    lora.load_adapter(ours, tmp_path)
    assert_close(outputs(case, ours), outputs(case, theirs.eval()), **EXACT)
