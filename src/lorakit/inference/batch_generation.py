"""One batch of prompts through transformers' `generate`, computed once for all beams.

`generate` repeats a prompt for each of its beams before it reads it. With ten beams and an input
that is longer than its text, most of the time goes there. Here the prompts are read once,

    cache = model(prompts without their last token)        B rows
    cache repeated for the beams                           B * beams rows

and `generate` continues from that cache: the same search, and the same texts.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, NoRepeatNGramLogitsProcessor

from lorakit.private.transformers_names import is_stateful
from lorakit.recipe.decoding import Sampling
from lorakit.tasks.padding import padding_id


class AfterPrompt(LogitsProcessor):
    """A processor that sees the answer only.

    A prompt's own words have to be allowed: data-to-text copies names from its input.
    """

    def __init__(self, inner: LogitsProcessor, start: int) -> None:
        self.inner, self.start = inner, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        processed: Tensor = self.inner(input_ids[:, self.start :], scores)
        return processed


def answer(model: Any, tokenizer: Any, prompts: list[list[int]], sampling: Sampling) -> list[str]:
    """A text for each prompt; prompts are padded on the left."""
    pad = padding_id(tokenizer)
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor(
        [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device
    )
    arguments = sampling.arguments() | {"eos_token_id": _ends(model, tokenizer, sampling)}
    if sampling.no_repeat_ngram:
        inner = NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram)
        arguments["logits_processor"] = [AfterPrompt(inner, longest)]
    if sampling.beams > 1 and longest > 1 and _continues(model):
        arguments["past_key_values"] = _prompt_cache(model, ids, mask, sampling.beams)
    output = model.generate(input_ids=ids, attention_mask=mask, pad_token_id=pad, **arguments)
    answers: list[str] = tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
    return [_until(text, sampling.stop).strip() for text in answers]


def _until(text: str, stop: Sequence[str]) -> str:
    """What stands before the first stop text."""
    return min((text.partition(mark)[0] for mark in stop), key=len, default=text)


def _ends(model: Any, tokenizer: Any, sampling: Sampling) -> list[int] | None:
    """The tokens that end an answer: the model's own, the tokenizer's, and the stop texts."""
    own = model.generation_config.eos_token_id
    ends = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    for text in sampling.stop:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ends += ids if len(ids) == 1 else []
    return list(dict.fromkeys(end for end in ends if end is not None)) or None


def _continues(model: Any) -> bool:
    """Whether the model takes positions and a plain cache, from which it can go on."""
    accepted = inspect.signature(model.forward).parameters
    return {"position_ids", "past_key_values"} <= set(accepted) and not is_stateful(model)


def _prompt_cache(model: Any, ids: Tensor, mask: Tensor, beams: int) -> DynamicCache:
    """Keys and values of all but the last token, repeated for the beams."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    model(
        input_ids=ids[:, :-1],
        attention_mask=mask[:, :-1],
        position_ids=positions[:, :-1],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_repeat_interleave(beams)
    return cache
