"""Tokens a second of `generate`: the base, and adapters of PEFT and lorakit, merged and not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.gpu import shapes, steps
from benchmarks.inputs import Model
from benchmarks.registry import Row, Settings, spread
from benchmarks.rounds import over
from lorakit.timing import interleave

SECONDS = 12.0
PROMPT, NEW = 64, 32
ROWS = (1, 16)
"""Prompts decoded together."""

CONDITIONS = {
    "model": "with a head, random bfloat16 weights",
    "adapter": f"all linear layers but the head, r {peers.RANK}, float32 A and B",
    "prompt and new tokens": f"{PROMPT} and {NEW}, greedy, transformers' generate and its cache",
    "over base": "times within a round; below 1 is slower than the base",
    "merged": "PEFT's merge_adapter, lorakit's merged",
}


def check(settings: Settings) -> None:
    steps.require_peft()


def rows(settings: Settings) -> Iterator[Row]:
    model = shapes.models(settings)[-1]
    base = build(settings, model)
    with ExitStack() as stack:
        models = candidates(base, model, stack)
        for count in ROWS[:1] if settings.quick else ROWS:
            ids = shapes.batch(settings, model, count * PROMPT).view(count, PROMPT)
            new = 4 if settings.quick else NEW
            runs = {name: generation(found, ids, new) for name, found in models.items()}
            times = interleave(runs, settings.device, 0.3 if settings.quick else SECONDS, least=3)
            for name, seconds in times.items():
                yield {
                    "model": model.name,
                    "rows": count,
                    "candidate": name,
                    "tokens a second": spread([count * new / taken for taken in seconds]),
                    "over base": over(times, "base", name),
                    "ms a token": median(seconds) / new * 1e3,
                }


def build(settings: Settings, model: Model) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    config = LlamaConfig(**model.sizes)
    config.eos_token_id = None  # random weights must not end a text
    with torch.device(settings.device):
        made: nn.Module = LlamaForCausalLM(config).to(shapes.DTYPE).eval()
    return made.requires_grad_(False)


def candidates(base: nn.Module, model: Model, stack: ExitStack) -> dict[str, nn.Module]:
    """Those that are merged stay so until the stack ends; PEFT's then has weights of its own."""
    models = {"base": base}
    for library in ("lorakit", "peft"):
        for state in ("unmerged", "merged"):
            copy = deepcopy(base) if state == "merged" else shapes.share(base)
            adapted = peers.INSTALLED[library](copy, peers.Adapter(model.all_linear))
            peers.set_factors(adapted.model.eval(), seed=0)
            if state == "merged":
                stack.enter_context(adapted.merged())
            models[f"{library}, {state}"] = adapted.model
    return models


def generation(model: Any, ids: Tensor, new: int) -> Callable[[], object]:
    """Greedy decoding of exactly so many tokens."""
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(ids)

    def run() -> None:
        with torch.no_grad():
            found = model.generate(input_ids=ids, attention_mask=mask, **options)
        assert found.shape[1] == ids.shape[1] + new

    return run
