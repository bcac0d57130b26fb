"""lorakit and PEFT with the same adapter on the device: outputs, merged outputs, gradients."""

from __future__ import annotations

import copy

import pytest
import torch

import lorakit as lora
from tests.compat.peft_cases import CASES
from tests.tolerances import MODEL

pytest.importorskip("peft")
from tests.compat.peft_models import GRADIENTS, adapted, doubled, gradients, in_peft, output


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_peft(name, device, tmp_path):
    case = CASES[name]
    ours = adapted(case)
    path = lora.save_adapter(ours, tmp_path / "a")
    theirs = in_peft(case.model().to(device), path, is_trainable=True).to(device)
    ours.to(device)
    # First, and of copies: PEFT's attention merges in each forward, and is changed a little by it.
    copies = copy.deepcopy(ours), copy.deepcopy(theirs)
    for mine, other in gradients(*copies, doubled(case, device)):
        torch.testing.assert_close(mine, other, **GRADIENTS)
    batch = {key: tensor.to(device) for key, tensor in case.batch().items()}
    with torch.no_grad():
        found = output(ours, batch)
        torch.testing.assert_close(found, output(theirs, batch), **MODEL)
        with lora.merged(ours):
            torch.testing.assert_close(output(ours, batch), found, **MODEL)
