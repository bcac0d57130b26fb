"""Programs that use more of loralib than its README shows run on lorakit with the import changed.

Each runs on both libraries under the name `loralib` and has to leave the same `result`.
"""

from __future__ import annotations

import copy
import pickle
from types import ModuleType
from typing import Any

import loralib
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import lorakit
from lorakit.errors import ConfigError
from tests.tolerances import TOLERANCES

OWN_LAYER = """
class Own(nn.Linear, loralib.LoRALayer):
    def __init__(self, in_features, out_features, r, lora_alpha, lora_dropout=0.0):
        nn.Linear.__init__(self, in_features, out_features)
        loralib.LoRALayer.__init__(
            self, r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, merge_weights=False
        )
        self.lora_A = nn.Parameter(torch.randn(r, in_features))
        self.lora_B = nn.Parameter(torch.randn(out_features, r))
        self.scaling = self.lora_alpha / self.r

    def forward(self, x):
        y = nn.Linear.forward(self, x)
        if self.r > 0 and not self.merged:
            y = y + self.lora_dropout(x) @ self.lora_A.T @ self.lora_B.T * self.scaling
        return y

torch.manual_seed(0)
model = nn.Sequential(Own(4, 6, 2, 8, 0.5), nn.ReLU(), nn.Linear(6, 2)).eval()
"""

PROGRAMS = {
    "a layer of one's own": OWN_LAYER
    + """
result = {"output": model(torch.ones(3, 4)), "settings": (model[0].r, model[0].merge_weights)}
""",
    "its parameters": OWN_LAYER
    + """
result = {}
for bias in ("none", "all", "lora_only"):
    loralib.mark_only_lora_as_trainable(model, bias=bias)
    result[f"{bias} trains"] = [n for n, p in model.named_parameters() if p.requires_grad]
    result[f"{bias} is saved"] = sorted(loralib.lora_state_dict(model, bias=bias))
""",
    "isinstance": """
layers = [
    loralib.Linear(4, 4, r=2),
    loralib.Embedding(4, 4, r=2),
    loralib.MergedLinear(4, 6, r=2, enable_lora=[True, False]),
    loralib.Conv1d(2, 2, 1, r=1),
    loralib.Conv2d(2, 2, 3, r=1),
    loralib.Conv3d(2, 2, 1, r=1),
    loralib.Linear(4, 4),
    nn.Linear(4, 4),
]
result = {
    "LoRALayer": [isinstance(layer, loralib.LoRALayer) for layer in layers],
    "ConvLoRA": [isinstance(layer, loralib.ConvLoRA) for layer in layers],
    "merged": [isinstance(layer, loralib.MergedLinear) for layer in layers],
    "r": [layer.r for layer in layers[:6]],
}
""",
    "the modules": """
torch.manual_seed(0)
model = nn.Sequential(
    loralib.layers.Linear(4, 6, r=2, lora_alpha=4), loralib.layers.MergedLinear(6, 4)
)
for parameter in model.parameters():  # draws come in another order
    parameter.data.fill_(0.5)
loralib.utils.mark_only_lora_as_trainable(model, bias="none")
result = {
    "same": [
        getattr(loralib.layers, name) is getattr(loralib, name)
        for name in ("LoRALayer", "Embedding", "Linear", "MergedLinear", "ConvLoRA", "Conv2d")
    ],
    "output": model(torch.ones(1, 4)),
    "saved": sorted(loralib.utils.lora_state_dict(model)),
}
""",
    "a convolution by its class": """
class Block(loralib.ConvLoRA):
    def __init__(self, *args, **kwargs):
        super().__init__(nn.Conv2d, *args, **kwargs)

torch.manual_seed(0)
layers = [
    Block(4, 6, 3, r=2, lora_alpha=4, padding=1),
    loralib.ConvLoRA(nn.Conv1d, 4, 6, 1, r=2, lora_alpha=4),
]
for layer in layers:
    for parameter in layer.parameters():  # their names and the order of draws differ
        parameter.data.fill_(0.25)
result = {
    "shapes": [tuple(layer.lora_A.shape) for layer in layers],
    "output": [layers[0](torch.ones(1, 4, 5, 5)), layers[1](torch.ones(1, 4, 3))],
    "kinds": [isinstance(layers[0], Block), isinstance(layers[0], loralib.LoRALayer)],
}
""",
}


def run(program: str, library: ModuleType) -> dict[str, Any]:
    namespace: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "loralib": library}
    exec(program, namespace)
    result: dict[str, Any] = namespace["result"]
    return result


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_leaves_the_same_result(name: str) -> None:
    expected, found = (run(PROGRAMS[name], library) for library in (loralib, lorakit))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key == "output":
            assert_close(found[key], value, **TOLERANCES[torch.float32])
        else:
            assert found[key] == value, key


def test_a_convolution_of_another_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="it must be nn\\.Conv1d"):
        lorakit.ConvLoRA(nn.Linear, 4, 4, 1, r=1)


class Block(lorakit.ConvLoRA):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(nn.Conv2d, *args, **kwargs)


def test_a_subclass_of_convlora_is_copied_and_pickled() -> None:
    block, x = Block(4, 6, 3, r=2), torch.randn(1, 4, 5, 5)
    nn.init.normal_(block.lora_B)
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert type(twin) is type(block)
        assert_close(twin(x), block(x), rtol=0, atol=0)
