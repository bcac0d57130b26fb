"""Quantised bases by formula, beside bitsandbytes' sizes and a real step with packed weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lorakit as lora
from lorakit.planner.bases import model_on_meta
from lorakit.planner.planning import plan_step
from lorakit.planner.quantised import QUANTISATIONS, linear_weights
from lorakit.planner.recording import LinearWeight
from lorakit.planner.settings import StepSettings
from tests.planner.measured import measured_peak
from tests.planner.test_planning import LORA, SMALL

OF_BITSANDBYTES = {
    (384, 1536): {"int8": 591_360, "nf4": 331_840, "nf4_double": 305_364},
    (1024, 4096): {"int8": 4_198_400, "nf4": 2_359_360, "nf4_double": 2_164_804},
    (300, 100): {"int8": 31_200, "nf4": 16_940, "nf4_double": 16_569},
}
"""Bytes of the tensors that bitsandbytes 0.50.2 makes of a weight on a CPU: `quantize_4bit(weight,
quant_type="nf4", compress_statistics=double)` with its QuantState, `int8_vectorwise_quant`."""


@pytest.mark.parametrize("shape", OF_BITSANDBYTES)
def test_stored_bytes_are_those_of_bitsandbytes(shape):
    weight = LinearWeight(shape[0] * shape[1], shape[0], nbytes=0)
    assert {name: way.stored(weight) for name, way in QUANTISATIONS.items()} == OF_BITSANDBYTES[
        shape
    ]


@pytest.mark.parametrize(("name", "bits"), [("nf4", 4.5), ("nf4_double", 4.127), ("int8", 8)])
def test_bits_of_a_parameter_are_those_of_the_papers(name, bits):
    large = LinearWeight(8192**2, 8192, nbytes=0)
    assert 8 * QUANTISATIONS[name].stored(large) / 8192**2 == pytest.approx(bits, abs=5e-3)


def test_linear_layers_are_quantised_and_the_rest_stays():
    for name, model in ((name, model_on_meta(config)) for name, config in SMALL.items()):
        weights = {id(weight): outputs for weight, outputs in linear_weights(model).items()}
        quantised = [
            (n, p, weights[id(p)]) for n, p in model.named_parameters() if id(p) in weights
        ]
        stays = [n for n, p in model.named_parameters() if id(p) not in weights and p.ndim == 2]
        assert all("embed" in n or n in STAYS[name] for n in stays), stays
        assert all(p.ndim == 2 for _, p, _ in quantised)
        outputs = {n.split(".")[-2]: of for n, _, of in quantised}
        assert outputs.items() >= OUTPUTS[name].items()


STAYS = {
    "bert": ["classifier.weight"],
    "llama": ["lm_head.weight"],
    "gpt2": ["transformer.wte.weight", "transformer.wpe.weight"],
    "t5": [
        "shared.weight",
        "lm_head.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    ],
}
OUTPUTS = {
    "bert": {"query": 128, "dense": 128},
    "llama": {"up_proj": 512, "down_proj": 128},
    "gpt2": {"c_attn": 384, "c_fc": 512},
    "t5": {"wi": 256, "q": 128},
}


class _Unpack(torch.autograd.Function):
    """A product with a weight that is made for the moment of it, in forward and in backward."""

    @staticmethod
    def forward(ctx, x, shape):
        ctx.shape = shape
        return x @ torch.zeros(shape).t()

    @staticmethod
    def backward(ctx, gradient):
        return gradient @ torch.zeros(ctx.shape), None


class _Packed(nn.Module):
    """A linear layer of which only as many bytes are there as it is said to take."""

    def __init__(self, linear, nbytes):
        super().__init__()
        self.shape = tuple(linear.weight.shape)
        self.register_buffer("packed", torch.zeros(nbytes, dtype=torch.uint8))
        self.bias = linear.bias

    def forward(self, x):
        y = _Unpack.apply(x, self.shape)
        return y if self.bias is None else y.add_(self.bias)


def packed(model, name, heads):
    for path, module in list(model.named_modules()):
        if type(module) is nn.Linear and not any(head in path for head in heads):
            weight = LinearWeight(module.weight.numel(), module.out_features, 0)
            model.set_submodule(path, _Packed(module, QUANTISATIONS[name].stored(weight)))


@pytest.mark.parametrize(
    ("base", "name", "checkpointing"),
    [("bert", "nf4", False), ("llama", "int8", False), ("llama", "nf4_double", True)],
)
def test_peak_is_that_of_a_step_with_packed_weights(base, name, checkpointing):
    settings = StepSettings(
        "prefix_layer", None, 2, 32, "fp32", quantised=name, checkpointing=checkpointing
    )
    meta = model_on_meta(SMALL[base])
    planned = plan_step(meta, settings).peak_bytes
    measured = measured_peak(
        type(meta)(SMALL[base]),
        settings,
        lambda model: packed(model, name, ("classifier", "lm_head")),
    )
    assert planned == pytest.approx(measured, rel=0.02)


def test_base_weights_are_by_formula_and_a_read_takes_a_copy():
    plain, small = (
        lora.plan(SMALL["llama"], "lora", LORA, batch=1, length=8, quantised=way)
        for way in (None, "nf4_double")
    )
    weights = [w.numel() for w in linear_weights(model_on_meta(SMALL["llama"]))]
    saved = 2 * sum(weights) - sum(
        QUANTISATIONS["nf4_double"].stored(LinearWeight(size, 0, 0)) for size in weights
    )
    assert plain.bytes_by["base weights"] - small.bytes_by["base weights"] == saved
    assert 0 < plain.peak_bytes - small.peak_bytes < saved
    assert small.trainable_parameters == plain.trainable_parameters
