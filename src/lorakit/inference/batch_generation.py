"""One batch of prompts through transformers' `generate`, prefilled once for all beams.

`generate` repeats a decoder's prompt for each of its beams before it reads it. With ten beams and a
prompt that is longer than its completion, most of the time goes there. Here the prompts are
prefilled once,

    cache = model(prompts without their last token)        B rows
    cache repeated for the beams                           B * num_beams rows

and `generate` continues from that cache: the same search, and the same completions.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, NoRepeatNGramLogitsProcessor

from lorakit.inference.streaming import CompletionStream, CompletionText, Say
from lorakit.methods.prefixes.prompts import KnowsPrompts
from lorakit.models.stop_tokens import stop_ids
from lorakit.private.transformers_names import is_stateful
from lorakit.recipe.decoding import DecodingConfig
from lorakit.tasks.padding import padded, padding_id
from lorakit.tasks.text_models import text_model_of


class AfterPrompt(LogitsProcessor):
    """A logits processor that sees the completion only.

    N-grams of the prompt have to be allowed: data-to-text copies names from its input.
    """

    def __init__(self, inner: LogitsProcessor, start: int) -> None:
        self.inner, self.start = inner, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        processed: Tensor = self.inner(input_ids[:, self.start :], scores)
        return processed


def generate_batch(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    decoding: DecodingConfig,
    say: Say | None = None,
    config: Any = None,
) -> list[str]:
    """The completion of each prompt; `say` is told that of a single one as it comes.

    With beam search it comes at the end, when the best one is known. `config` is transformers'
    generation config, by default the model's.

    Where it continues the prompt, prompts are padded on the left, so that every row continues at
    its end. A decoder of its own begins with one token, which is not part of the completion.
    """
    pad, continues = padding_id(tokenizer), text_model_of(model.config).continues_prompt
    ids = padded(prompts, pad, left=continues).to(model.device)
    mask = padded([[1] * len(p) for p in prompts], 0, left=continues).to(model.device)
    start = ids.shape[1] if continues else 1
    arguments = decoding.generate_kwargs()
    config = copy.deepcopy(model.generation_config if config is None else config)
    ends = stop_ids(config, tokenizer, _stop_tokens(tokenizer, decoding.stop_strings))
    arguments["eos_token_id"] = ends
    if decoding.no_repeat_ngram_size:
        inner = NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram_size)
        arguments["logits_processor"] = [AfterPrompt(inner, start)]
    if continues and decoding.num_beams > 1 and start > 1 and _accepts_cache(model):
        arguments["past_key_values"] = _prompt_cache(model, ids, mask, decoding.num_beams)
    text = CompletionText(tokenizer, ends or (), decoding.stop_strings)
    if say is not None and decoding.num_beams == 1:
        arguments["streamer"] = CompletionStream(text, say)
    others = config.update(**arguments, pad_token_id=pad)
    inputs = {"input_ids": ids, "attention_mask": mask}
    output = model.generate(**inputs, generation_config=config, **others)
    texts = [text.whole(ids) for ids in output[:, start:].tolist()]
    if say is not None and decoding.num_beams > 1:
        say(texts[0])
    return texts


def _stop_tokens(tokenizer: Any, stop_strings: Sequence[str]) -> list[int]:
    """The stop strings that are one token."""
    found = [tokenizer(stop, add_special_tokens=False)["input_ids"] for stop in stop_strings]
    return [ids[0] for ids in found if len(ids) == 1]


def _accepts_cache(model: Any) -> bool:
    """Whether the model takes position ids and a plain cache from which it can continue."""
    accepted = inspect.signature(model.forward).parameters
    takes = {"position_ids", "past_key_values"} <= set(accepted)
    return takes and not is_stateful(model) and not isinstance(model, KnowsPrompts)


def _prompt_cache(model: Any, ids: Tensor, mask: Tensor, num_beams: int) -> DynamicCache:
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
    cache.batch_repeat_interleave(num_beams)
    return cache
