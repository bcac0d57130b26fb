"""The names in mlx-lm of every module that its models share with transformers'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.formats.mlx_names import FAMILIES, names_of
from lorakit.config import LoraConfig
from lorakit.errors import SaveError
from lorakit.injection.transfer.saving import bundle_of
from lorakit.variants import EmbeddingSite, LinearSite
from tests.checkpoint.test_forms import adapter
from tests.tolerances import MODEL

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "pad_token_id": 0,
}
GPT = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "vocab_size": 64}
OTHER: Mapping[str, Mapping[str, Any]] = {
    "gpt2": GPT | {"n_ctx": 64, "bos_token_id": 1, "eos_token_id": 2},
    "gpt_bigcode": GPT | {"n_inner": 128},
    "gptj": GPT | {"rotary_dim": 4},
    "gpt_neox": SIZES | {"intermediate_size": 128},
}
IDS = [list(range(1, 13))]


def there(config: Any) -> Any:
    """The model of mlx-lm."""
    pytest.importorskip("mlx.core", reason="mlx is not installed")
    from mlx_lm.utils import _get_classes

    said = {"rotary_emb_base": 10_000, "rotary_pct": 0.25, **config.to_dict()}
    said |= {k: v for k, v in (said.get("rope_parameters") or {}).items() if k != "rope_type"}
    model, args = _get_classes(said)
    return model(args.from_dict(said))


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_those_of_mlx(family: str) -> None:
    config = AutoConfig.for_model(family, **OTHER.get(family, SIZES))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names = names_of(config.to_dict())
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    assert len(layers) > 4
    held = {name: names.there(name) for name in layers if names.problem(name) is None}
    assert len(held) >= len(layers) - 1  # a tied head
    assert set(held.values()) <= {name for name, _ in there(config).named_modules()}
    assert {names.here(name): name for name in held.values()} == held


def test_mlx_computes_the_same_logits_of_gpt2(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core", reason="mlx is not installed")
    from mlx_lm.tuner.utils import load_adapters

    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt2", **OTHER["gpt2"])
    base = AutoModelForCausalLM.from_config(config).eval()
    other = there(config)
    weights = [
        (n.removeprefix("transformer."), mx.array(t.numpy())) for n, t in base.state_dict().items()
    ]
    weights = [pair for pair in weights if pair[0] != "lm_head.weight"]
    other.load_weights(list(other.sanitize(dict(weights)).items()))
    lora.inject(base, LoraConfig(r=4, target_modules=["c_attn", "c_fc"], init_lora_weights=False))
    bundle = bundle_of(base)
    write(bundle, tmp_path, "mlx", base=config.to_dict())
    load_adapters(other, str(tmp_path))
    other.eval()
    with torch.no_grad():
        expected = base(torch.tensor(IDS)).logits
    torch.testing.assert_close(torch.tensor(other(mx.array(IDS)).tolist()), expected, **MODEL)
    found = read(tmp_path)
    assert {n: x.site for n, x in found.adapters.items()} == {
        n: x.site for n, x in bundle.adapters.items()
    }


REFUSED: dict[str, tuple[dict[str, Any] | None, str, str]] = {
    "no base": (None, "model.layers.0.q_proj", "pass --base"),
    "family": ({"model_type": "gptneox"}, "gpt_neox.layers.0.x", "did you mean 'gpt_neox'"),
    "name": ({"model_type": "gpt2"}, "h.0.attn.c_attn", "gpt2 has no module h.0.attn.c_attn"),
    "body alone": ({"model_type": "llama"}, "layers.0.q_proj", "llama has no module layers.0"),
    "expert": ({"model_type": "mixtral"}, "model.layers.0.experts.1.w1", "has no module"),
    "tied": ({"model_type": "qwen2", "tie_word_embeddings": True}, "lm_head", "lm_head is tied"),
    "table": ({"model_type": "gemma"}, "model.embed_tokens", "model.embed_tokens is tied"),
}


@pytest.mark.parametrize(("base", "name", "message"), REFUSED.values(), ids=REFUSED)
def test_name_that_mlx_does_not_have_is_refused(
    base: dict[str, Any] | None, name: str, message: str, tmp_path: Path
) -> None:
    site = EmbeddingSite(8, 4) if "embed" in name else LinearSite(8, 4)
    bundle = AdapterBundle(LoraConfig(target_modules=[name]), {name: adapter(site)})
    with pytest.raises(SaveError) as caught:
        write(bundle, tmp_path / "a", "mlx", base=base)
    assert message in str(caught.value)
    assert not (tmp_path / "a").exists()
