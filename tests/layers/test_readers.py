"""Parents of transformers that read a child's weight: its adapter acts, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import ConfigError, TargetError
from lorakit.layers import readers
from lorakit.layers.conversion import lora_layers
from tests.tolerances import EXACT, MODEL


@dataclass(frozen=True)
class Case:
    """A model whose parent reads `child.weight`."""

    build: Callable[[], nn.Module]
    inputs: dict[str, Tensor]
    child: str


def _mamba(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        config = getattr(transformers, f"{name}Config")
        sizes = {"vocab_size": 40, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 1}
        ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        made: nn.Module = getattr(transformers, f"{name}Model")(config(**sizes | ids | settings))
        return made

    return build


def _mobilebert() -> nn.Module:
    made: nn.Module = transformers.MobileBertForMaskedLM(
        transformers.MobileBertConfig(
            vocab_size=40,
            hidden_size=24,
            embedding_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            intra_bottleneck_size=16,
            num_feedforward_networks=1,
            max_position_embeddings=16,
        )
    )
    return made


def _wavlm_attention() -> nn.Module:
    attention: nn.Module = transformers.models.wavlm.modeling_wavlm.WavLMAttention(16, 2)
    return attention


IDS = {"input_ids": 3 + torch.arange(6).reshape(1, 6)}
STATES = {"hidden_states": torch.linspace(-1, 1, 64).reshape(1, 4, 16)}

CASES = {
    "mamba dt_proj": Case(_mamba("Mamba"), IDS, "dt_proj"),
    "mamba x_proj": Case(_mamba("Mamba"), IDS, "x_proj"),
    "falcon mamba": Case(_mamba("FalconMamba"), IDS, "dt_proj"),
    "mobilebert dense": Case(_mobilebert, IDS, "cls.predictions.dense"),
    "mobilebert decoder": Case(_mobilebert, IDS, "cls.predictions.decoder"),
    "wavlm": Case(_wavlm_attention, STATES, "q_proj"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_adapter_acts_as_a_sum_in_the_weight(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(1)
    model = case.build().eval()
    before = model(**case.inputs)[0]
    lora.inject(
        model,
        lora.LoraConfig(r=2, lora_alpha=400, target_modules=[case.child], init_lora_weights=False),
    )
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_B.copy_(torch.randn_like(layer.lora_B))
    adapted = model(**case.inputs)[0]
    adapted.sum().backward()
    for key, layer in lora_layers(model):
        for factor in (layer.lora_A, layer.lora_B):
            assert factor.grad is not None, key
            assert factor.grad.any(), key
    assert (adapted - before).abs().max() > 1e-4
    lora.fold(model)
    assert_close(model(**case.inputs)[0], adapted, **MODEL)


def test_eject_leaves_the_output_as_it_was() -> None:
    case = CASES["mamba dt_proj"]
    model = case.build().eval()
    before = model(**case.inputs)[0]
    lora.inject(model, lora.LoraConfig(target_modules=["dt_proj"], init_lora_weights=False))
    lora.eject(model)
    assert_close(model(**case.inputs)[0], before, **EXACT)


def test_dropout_is_refused_where_the_input_passes_by() -> None:
    config = lora.LoraConfig(target_modules=["dt_proj", "in_proj"], lora_dropout=0.1)
    with pytest.raises(
        TargetError, match=r"read by MambaMixer, which never .*lora_dropout must be 0"
    ) as e:
        lora.inject(_mamba("Mamba")(), config)
    assert len(e.value.problems) == 1


def test_what_cannot_be_exposed_is_refused_and_not_offered() -> None:
    model = _mamba("Mamba")()
    config = lora.LoraConfig(r=32, target_modules=["conv1d"])
    with pytest.raises(TargetError, match="conv1d has its weight read by MambaMixer, which never"):
        lora.inject(model, config)
    found = lora.targets(model)
    assert "conv1d" not in {group.suffix for group in found.groups}
    assert any("MambaMixer" in reason for reason in found.refused.values())


def test_a_layer_that_cannot_be_exposed_is_refused_where_it_is_assigned() -> None:
    class MambaMixer(nn.Module):
        def __init__(self, child: nn.Module) -> None:
            super().__init__()
            self.conv1d = child

    lora.Linear(4, 4, r=2)
    with pytest.raises(ConfigError, match="an adapter would have no effect"):
        readers.merge_on_read(MambaMixer(nn.Identity()), "conv1d", lora.Conv1d(4, 4, 1, r=2))
