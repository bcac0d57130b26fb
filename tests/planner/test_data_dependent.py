"""A forward that depends on values cannot be planned, and the error says what is known."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

import lorakit as lora
from lorakit.errors import PlanError
from lorakit.planner.bases import model_on_meta
from lorakit.text import size_text

CONFIG = LlamaConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    vocab_size=64,
    intermediate_size=64,
)
LOOKS = {
    "item": ("aten._local_scalar_dense", lambda x: x if x.sum().item() > 0 else -x),
    "bool": ("aten._local_scalar_dense", lambda x: x if x.sum() > 0 else -x),
    "tolist": ("aten._local_scalar_dense", lambda x: x + x.sum((0, 1)).tolist()[0]),
    "numpy": ("torch.Tensor.numpy", lambda x: x + x.detach().numpy().sum()),
    "asarray": ("torch.Tensor.__array__", lambda x: x + np.asarray(x.detach()).sum()),
    "from_dlpack": ("torch.Tensor.__dlpack__", lambda x: x + torch.from_dlpack(x.detach())),
    "format": ("torch.Tensor.__format__", lambda x: x + len(f"{x.sum():.2f}")),
    "nonzero": ("aten.nonzero", lambda x: x + x.nonzero().sum()),
    "index": ("aten.index", lambda x: x + x[x > 0].sum()),
    "masked_select": ("aten.masked_select", lambda x: x + x.masked_select(x > 0).sum()),
    "unique": ("aten._unique2", lambda x: x + x.unique().sum()),
}
"""By what they do: the operation that needs values, and how."""


def looking(look):
    """A model whose second layer's MLP looks at values."""
    model = model_on_meta(CONFIG)
    mlp = model.model.layers[1].mlp

    class Looking(type(mlp)):
        def forward(self, x):
            return super().forward(look(x))

    mlp.__class__ = Looking
    return model


@pytest.mark.parametrize("way", LOOKS)
def test_error_names_module_and_operation(way):
    operation, look = LOOKS[way]
    place = rf"{re.escape(operation)}\S* in the module model\.layers\.1\.mlp "
    with pytest.raises(PlanError, match=place) as error:
        lora.plan(looking(look), "full", length=8, dtype="fp32")
    assert error.value.problems[-1].startswith("sum, by formula, without activations: ")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_error_has_the_weights_gradients_and_state_by_formula(method):
    settings = {"batch": 2, "length": 8, "dtype": "fp32"}
    config = lora.LoraConfig(target_modules=["q_proj"]) if method == "lora" else None
    with pytest.raises(PlanError) as error:
        lora.plan(looking(LOOKS["index"][1]), method, config, **settings)
    known = lora.plan(CONFIG, method, config, **settings).bytes_by
    lines = [line for line in error.value.problems if not line.startswith("sum")]
    found = {line.split(", by formula: ")[0]: line.split(": ")[1] for line in lines}
    weights = 4 * sum(p.numel() for p in model_on_meta(CONFIG).parameters())
    assert set(found) == {"base weights", "trained weights", "gradients", "optimizer state"}
    for name in ("base weights", "trained weights", "optimizer state"):
        assert found[name] == size_text(known[name])
    assert found["gradients"] == found["trained weights"]
    assert (found["trained weights"] == size_text(weights)) == (method == "full")


def test_error_that_is_no_matter_of_values_stays_as_it_is():
    def wrong(x):
        raise RuntimeError("a mistake of the model's own")

    with pytest.raises(RuntimeError, match="a mistake of the model's own") as error:
        lora.plan(looking(wrong), "full", length=8)
    assert not isinstance(error.value, PlanError)
