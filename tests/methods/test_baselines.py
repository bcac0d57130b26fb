"""Full fine-tuning and the head alone train what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lorakit.errors import ConfigError
from lorakit.methods import MethodConfig
from lorakit.methods.full import Full, FullConfig
from lorakit.methods.head import Head
from tests.tolerances import EXACT, TOLERANCES


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_full_trains_a_narrower_model_in_float32(dtype):
    model = net().to(dtype).eval()
    x = torch.randn(2, 4)
    before = model["body"](x.to(dtype))
    Full().apply(model, FullConfig())
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert_close(model["body"](x), before.float(), **TOLERANCES[dtype])


def test_full_loads_into_a_narrower_model_without_a_cast():
    trained, model = net(), net().bfloat16()
    Full().apply(trained, FullConfig())
    Full().load(model, Full().bundle(trained), "run", check_base=False)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    assert_close(model["body"].weight, trained["body"].weight.bfloat16(), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_head_trains_in_float32_on_a_narrower_model(dtype):
    model = net().to(dtype)
    x = torch.randn(2, 4, dtype=dtype)
    before = model["classifier"](x)
    Head().apply(model, MethodConfig(), ["classifier"])
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert_close(model["classifier"](x), before, **EXACT)
