"""What vLLM asks of an adapter, by its own rules.

Source: vLLM 0.33.0, `lora/peft_helper.py` (settings that it refuses, the scale that it computes),
`config/lora.py` (its ranks) and `lora/lora_model.py` (heads, names of tensors).
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

    vLLM supports one r and one lora_alpha for all layers, no biases and no DoRA; of modules to save
    it supports heads named classifier or score.
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
    if config.variant != "lora":
        yield f"it uses {VARIANTS[config.variant].title}"
    if config.trainable_token_indices is not None:
        yield "it trains rows of the vocabulary (trainable_token_indices)"
        return
    one = scaling(config.r, config.lora_alpha, config.use_rslora)
    if any(not math.isclose(x.spec.scaling, one) for x in bundle.adapters.values()):
        yield "its layers differ in their scaling (lora_alpha / r)"
    if any(x.site is not None and x.site.kind != "linear" for x in bundle.adapters.values()):
        yield "it adapts layers that are not linear"
    if max_rank(bundle) is None:
        yield f"its rank is above {RANKS[-1]}"


def _rank(bundle: AdapterBundle) -> int:
    return max((x.tensors["lora_A"].shape[0] for x in bundle.adapters.values()), default=1)
