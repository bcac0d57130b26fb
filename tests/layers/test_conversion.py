"""Turning a torch module into an adapted one with given factors."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers.conversion import adapt
from lorakit.layers.spec import AdapterSpec
from tests.tolerances import EXACT


def test_factors_in_loralibs_form_may_have_a_rank_that_the_groups_do_not_divide():
    constructed = lora.Conv2d(4, 8, 3, r=3, groups=2)
    nn.init.normal_(constructed.lora_B)
    plain = nn.Conv2d(4, 8, 3, groups=2)
    plain.load_state_dict(
        {name: v for name, v in constructed.state_dict().items() if "lora_" not in name}
    )
    factors = copy.deepcopy((constructed.lora_A.detach(), constructed.lora_B.detach()))
    x = torch.randn(2, 4, 5, 5)
    assert_close(adapt(plain, AdapterSpec(3), factors)(x), constructed(x), **EXACT)
