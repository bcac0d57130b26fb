"""mlx-lm computes what lorakit does, from the directories that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, LlamaConfig

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.errors import FormatError, SaveError
from lorakit.injection.transfer.saving import bundle_of
from lorakit.variants import ConvSite
from tests.checkpoint.test_forms import adapter
from tests.tolerances import EXACT, MODEL

mx = pytest.importorskip("mlx.core", reason="mlx is not installed")

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
BASE = {"model_type": "llama", "tie_word_embeddings": False}
IDS = [list(range(1, 13))]


def model() -> nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)).eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits


def logits_in_mlx(adapter: Path | None) -> Tensor:
    from mlx_lm.models import llama
    from mlx_lm.tuner.utils import load_adapters

    base = model()
    sizes = {**SIZES, "model_type": "llama", "rms_norm_eps": base.config.rms_norm_eps}
    there = llama.Model(llama.ModelArgs.from_dict(sizes | {"tie_word_embeddings": False}))
    weights = {name: mx.array(t.numpy()) for name, t in base.state_dict().items()}
    there.load_weights(list(weights.items()))
    if adapter is not None:
        load_adapters(there, str(adapter))
    there.eval()
    return torch.tensor(there(mx.array(IDS)).tolist())


CASES: dict[str, dict[str, Any]] = {
    "scales and ranks": {
        "target_modules": ["q_proj", "down_proj", "lm_head"],
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"down_proj": 11},
        "use_rslora": True,
    },
    "embedding": {"target_modules": ["embed_tokens", "v_proj"]},
    "DoRA": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "the first layer": {"target_modules": ["q_proj"], "layers_to_transform": 0},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_mlx_computes_the_same_logits(settings: dict[str, Any], tmp_path: Path) -> None:
    adapted = model()
    plain = logits(adapted)
    config = lora.LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **settings)
    lora.inject(adapted, config)
    expected = logits(adapted)
    assert (expected - plain).abs().max() > 1e-3
    bundle = bundle_of(adapted)
    write(bundle, tmp_path / "a", "mlx", base=BASE)
    assert_close(logits_in_mlx(None), plain, **MODEL)
    assert_close(logits_in_mlx(tmp_path / "a"), expected, **MODEL)
    again = model()
    report = lora.load_adapter(again, tmp_path / "a")
    assert_close(logits(again), expected, **MODEL)
    assert report.base_verified
    found = read(tmp_path / "a")
    assert {n: x.site for n, x in found.adapters.items()} == {
        n: x.site for n, x in bundle.adapters.items()
    }
    write(found, tmp_path / "b", "mlx", base=BASE)
    for file in ("adapters.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_mlx_trains_loads_here(tmp_path: Path) -> None:
    from mlx_lm.models import llama
    from mlx_lm.tuner.utils import linear_to_lora_layers

    base = model()
    sizes = {**SIZES, "model_type": "llama", "rms_norm_eps": base.config.rms_norm_eps}
    there = llama.Model(llama.ModelArgs.from_dict(sizes | {"tie_word_embeddings": False}))
    there.load_weights([(n, mx.array(t.numpy())) for n, t in base.state_dict().items()])
    settings = {"rank": 3, "scale": 20.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    linear_to_lora_layers(there, 1, settings)
    layer = there.layers[1].self_attn.q_proj
    layer.lora_b = mx.random.normal(layer.lora_b.shape)
    tensors = {
        f"model.layers.1.self_attn.q_proj.{leaf}": getattr(layer, leaf)
        for leaf in ("lora_a", "lora_b")
    }
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), tensors)
    said = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": settings}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    lora.load_adapter(base, tmp_path)
    assert_close(logits(base), torch.tensor(there(mx.array(IDS)).tolist()), **MODEL)


def bundle() -> AdapterBundle:
    adapted = model()
    config = lora.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    lora.inject(adapted, config)
    return bundle_of(adapted)


def test_what_mlx_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    good = bundle()
    pairs = {"conv": adapter(ConvSite((4, 3, 3, 3)))}
    bad = AdapterBundle(good.config, pairs, {"lm_head.weight": torch.ones(2, 2)})
    with pytest.raises(SaveError) as caught:
        write(bad, tmp_path / "a", "mlx", base=BASE)
    text = str(caught.value)
    assert "lm_head.weight is trained in full" in text
    assert "conv is a convolution; mlx-lm adapts linear layers and tables of tokens" in text
    assert list(tmp_path.iterdir()) == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"fine_tune_type": "full"}, "fine_tune_type is 'full'; only lora and dora"),
    "kinds": ({"fine_tune_type": ["lora"]}, "fine_tune_type is"),
    "none": ({"lora_parameters": None}, "has no lora_parameters"),
    "scale": ({"lora_parameters": {"scale": 0}}, "scale is 0; it must be a number > 0"),
    "rank": ({"lora_parameters": {"scale": 1, "rank": 7}}, r"ranks \[4\], and its config says 7"),
    "dora": ({"fine_tune_type": "dora"}, r"q_proj\.m is missing"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_config_that_contradicts_the_tensors_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(bundle(), tmp_path, "mlx", base=BASE)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(FormatError, match=message):
        read(tmp_path)


def test_numbers_of_one_scale_stay_as_they_are(tmp_path: Path) -> None:
    given = bundle()
    found = read(write(given, tmp_path, "mlx", base=BASE))
    for name, pair in given.adapters.items():
        assert found.adapters[name].spec.scaling == pair.spec.scaling
        for leaf, tensor in pair.tensors.items():
            assert_close(found.adapters[name].tensors[leaf], tensor, **EXACT)
