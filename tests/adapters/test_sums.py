"""Weighted sums of adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from lorakit import LoraConfig
from lorakit.errors import StateError
from lorakit.layers.conversion import lora_layers
from tests.adapters.files import Build, alone, loaded_set, output, save_all
from tests.adapters.test_rows import IDS, mixed
from tests.injection import zoo
from tests.tolerances import MODEL

CASES: dict[str, tuple[Build, dict[str, dict[str, object]], dict[str, Tensor]]] = {
    "llama": (
        zoo.llama,
        {
            "a": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]},
            "b": {"r": 2, "use_rslora": True, "target_modules": "all-linear"},
        },
        {"input_ids": IDS},
    ),
    "slices": (
        zoo.gpt2,
        {
            "a": {"r": 2, "slices": {"c_attn": [True, False, True]}},
            "b": {"r": 4, "target_modules": ["c_attn"]},
        },
        {"input_ids": IDS},
    ),
    "other layers": (
        mixed,
        {
            "a": {"r": 2, "target_modules": ["embed", "conv"]},
            "b": {"r": 3, "target_modules": ["conv", "embed", "linear"]},
        },
        {"input_ids": IDS},
    ),
}


def with_summed_weights(
    build: Build, paths: Mapping[str, Path], weights: Mapping[str, float]
) -> nn.Module:
    """The base with the weighted updates added to its weights, in float64."""
    model = build().double()
    with torch.no_grad():
        for name, weight in weights.items():
            for module, layer in lora_layers(alone(build, paths[name])):
                parameter = model.get_parameter(f"{module}.weight")
                parameter += weight * layer.delta_weight().double()
    return model


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weights", [{"a": 0.5, "b": 1.5}, {"b": -1.0}, {"a": 1.0, "b": 1.0}])
def test_a_weighted_sum_is_the_sum_of_the_updates(
    name: str, weights: dict[str, float], tmp_path: Path
) -> None:
    build, configs, batch = CASES[name]
    paths, model = save_all(build, tmp_path, configs), build().double()
    adapters = loaded_set(model, paths)
    adapters.activate(weights)
    assert adapters.active == weights
    assert_close(
        output(model, **batch), output(with_summed_weights(build, paths, weights), **batch), **MODEL
    )


def test_what_has_no_sum_is_refused_by_name(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return zoo.bert("BertForSequenceClassification", num_labels=3)

    configs = {
        "plain": {"target_modules": ["query"]},
        "dora": {"use_dora": True, "target_modules": ["query"]},
        "head": {"target_modules": ["query"], "modules_to_save": ["classifier"]},
    }
    adapters = loaded_set(build(), save_all(build, tmp_path, configs))
    adapters.add("new", LoraConfig(r=2, target_modules=["value"]))
    names = ["plain", "dora", "head", "new"]
    with pytest.raises(StateError) as error:
        adapters.activate({**dict.fromkeys(names, 0.5), "plain": float("nan")})
    assert error.value.problems == (
        "'plain' has the weight nan, which is no finite number",
        "'dora' has adapters of DoRA, whose update is no product of A and B",
        "'head' brings heads or biases of its own",
        "'new' is being trained",
    )
    assert adapters.active == {}
    for name in names:
        adapters.activate({name: 1.0})
        assert adapters.active == {name: 1.0}
