"""How many positions a model has for virtual tokens and for text."""

from __future__ import annotations

import pytest
import torch
from transformers import RobertaConfig, RobertaModel

from lorakit.errors import StateError
from lorakit.methods import find
from lorakit.methods.prefixes.config import PrefixConfig
from tests.methods.prefixes.models import SHARED


@pytest.mark.parametrize(("padding", "room"), [(0, 19), (1, 18)])
def test_positions_begin_behind_that_of_padding(padding, room):
    config = RobertaConfig(pad_token_id=padding, max_position_embeddings=20, **SHARED)
    model = RobertaModel(config)
    find("prefix_embedding").apply(model, PrefixConfig(prefix=4))
    model(input_ids=torch.full((1, room - 4), 5))
    with pytest.raises(StateError, match=f"The inputs are longer than {room - 4} tokens"):
        model(input_ids=torch.full((1, room - 3), 5))
