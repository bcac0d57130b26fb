"""What vLLM asks of an adapter, by its own rules.

Source, in vLLM 0.33.0:
the settings that it refuses,
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/lora/peft_helper.py#L53-L87, L188-L202;
the scale of each layer, of which releases before 0.32 read one alone,
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/lora/peft_helper.py#L117-L153;
the ranks that it accepts,
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/config/lora.py#L27;
the names of tensors, and that it has one head,
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/lora/utils.py#L180-L233,
https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/lora/lora_model.py#L178-L192.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.config import scaling
from lorakit.variants import VARIANTS

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank accepts."""
HEADS = {"classifier", "score"}
"""The only modules that may be trained in full."""


def obstacles(bundle: AdapterBundle) -> list[str]:
    """Why vLLM would refuse this adapter or compute something else; empty if it serves it.

    vLLM supports no biases and no DoRA, and of modules to save one head named classifier or score;
    not every release reads other ranks or alphas than r and lora_alpha.
    """
    return list(_obstacles(bundle))


def max_rank(bundle: AdapterBundle) -> int | None:
    """The least --max-lora-rank that takes the adapter; None if it is above all of them."""
    return next((rank for rank in RANKS if rank >= _rank(bundle)), None)


def _obstacles(bundle: AdapterBundle) -> Iterator[str]:
    config = bundle.config
    others = sorted({n.rpartition(".")[0] for n in bundle.trained} - HEADS)
    if config.bias != "none":
        yield "it trains biases"
    elif others:
        yield f"it contains fully trained modules ({', '.join(others)})"
    elif len({name.rpartition(".")[0] for name in bundle.trained}) > 1:
        yield "it contains two heads, classifier and score"
    if config.variant != "lora":
        yield f"it uses {VARIANTS[config.variant].title}"
    if config.trainable_token_indices is not None:
        yield "it trains rows of the vocabulary (trainable_token_indices)"
        return
    one = scaling(config.r, config.lora_alpha, config.use_rslora)
    if any(not math.isclose(x.spec.scaling, one) for x in bundle.adapters.values()):
        yield (
            "its layers differ in their scaling (lora_alpha / r), which not every release of vLLM "
            "reads (lorakit convert --to vllm gives them one)"
        )
    if any(x.site is not None and x.site.kind != "linear" for x in bundle.adapters.values()):
        yield "it adapts layers that are not linear"
    if max_rank(bundle) is None:
        yield f"its rank is above {RANKS[-1]}"


def _rank(bundle: AdapterBundle) -> int:
    return max((x.tensors["lora_A"].shape[0] for x in bundle.adapters.values()), default=1)
