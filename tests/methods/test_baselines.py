"""Full fine-tuning and the head alone train what they say."""

from __future__ import annotations

import pytest
from torch import nn

from lorakit.errors import ConfigError
from lorakit.methods import MethodConfig
from lorakit.methods.full import Full, FullConfig
from lorakit.methods.head import Head


def net() -> nn.Module:
    model = nn.ModuleDict(
        {"body": nn.Linear(4, 4), "classifier": nn.Linear(4, 2), "classifier2": nn.Linear(4, 2)}
    )
    return model.requires_grad_(False)


def trainable(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


def test_full_trains_everything():
    model = net()
    assert Full().apply(model, FullConfig()).trainable_parameters == 20 + 10 + 10
    assert len(trainable(model)) == 6


def test_head_trains_these_modules_only():
    model = net().requires_grad_(True)
    report = Head().apply(model, MethodConfig(), ["classifier"])
    assert report.trainable_parameters == 10
    assert trainable(model) == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("modules", [[], ["nope"]])
def test_a_model_without_a_head_is_refused(modules):
    with pytest.raises(ConfigError, match="needs a head"):
        Head().apply(net(), MethodConfig(), modules)
