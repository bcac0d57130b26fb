"""Every method refuses a quantised base by name, and leaves it as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import BertModel

from lorakit.errors import TargetError
from lorakit.methods import METHODS
from tests.methods.bottlenecks import BERT


def dynamic() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is to be replaced by torchao
        return torch.ao.quantization.quantize_dynamic(BertModel(BERT), {nn.Linear}, torch.qint8)


def of_dtype(dtype: torch.dtype) -> nn.Module:
    model = BertModel(BERT)
    layer = model.encoder.layer[1].attention.self.query
    layer.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
    return model


class Rounded(nn.Parameter):
    """As libraries of quantisation have them."""


def of_type() -> nn.Module:
    model = BertModel(BERT)
    layer = model.encoder.layer[1].attention.self.query
    layer.weight = Rounded(layer.weight.detach())
    return model


def by_config() -> nn.Module:
    model = BertModel(type(BERT)(**BERT.to_dict()))
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    return model


BASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dynamic": (dynamic, r"encoder.layer.\{0-2\}.* torch.ao.nn.quantized.dynamic.Linear"),
    "int8": (lambda: of_dtype(torch.int8), "1.attention.self.query has a quantised .* torch.int8"),
    "float8": (lambda: of_dtype(torch.float8_e4m3fn), "query has a quantised .*float8_e4m3fn"),
    "type": (of_type, r"query has a weight of type Rounded \(quantised or sharded\)"),
    "config": (by_config, r"config has a quantization_config \(gptq\)"),
}


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("name", METHODS)
def test_a_quantised_base_is_refused_by_name(name, kind):
    build, problem = BASES[kind]
    model, method = build(), METHODS[name]
    kinds = {n: type(m) for n, m in model.named_modules()}
    trains = {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises(TargetError, match=r"BertModel is quantised, .* the base that it was") as at:
        method.apply(model, method.default_config(), ["pooler"])
    with pytest.raises(TargetError, match=problem):
        raise at.value
    assert {n: type(m) for n, m in model.named_modules()} == kinds
    assert {n: p.requires_grad for n, p in model.named_parameters()} == trains


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_base_of_another_float_is_not_taken_for_quantised(dtype):
    model, method = BertModel(BERT).to(dtype), METHODS["bitfit"]
    method.apply(model, method.default_config())
    assert method.is_applied(model)
