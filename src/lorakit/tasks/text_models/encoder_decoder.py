"""Encoder-decoders (T5, BART): the encoder reads the prompt, the decoder writes the completion.

    ids     p p p p e        p: the prompt's tokens, c: the completion's, e: end
    labels  c c c e

The decoder's inputs are its labels, moved by one token to the right, which the model does itself.
Prompt and completion each have `max_length` tokens; a prompt is truncated at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.tasks.base import TRUNCATED
from lorakit.tasks.pieces import Piece, answered
from lorakit.tasks.text_models.base import Columns, TextModel, without_eos
from lorakit.tasks.tokenizing import tokenize_texts


class EncoderDecoder(TextModel):
    """Text to text."""

    name = "encoder_decoder"
    auto_class = "AutoModelForSeq2SeqLM"
    continues_prompt = False

    def encode(
        self,
        tokenizer: Any,
        prompts: Sequence[str],
        completions: Sequence[str],
        max_length: int,
        end: int | None,
    ) -> Columns:
        encoded = self.encode_prompts(tokenizer, prompts, max_length)
        closing = [] if end is None else [end]
        whole = [ids + closing for ids in self.completion_ids(tokenizer, completions)]
        labels = [ids[:max_length] for ids in whole]
        pairs = zip(encoded[TRUNCATED], whole, strict=True)
        return {
            **encoded,
            "labels": labels,
            "decoder_attention_mask": [[1] * len(ids) for ids in labels],
            TRUNCATED: [cut + max(0, len(ids) - max_length) for cut, ids in pairs],
        }

    def encode_prompts(self, tokenizer: Any, prompts: Sequence[str], max_length: int) -> Columns:
        encoded = tokenize_texts(tokenizer, [list(prompts)], max_length)
        return {name: encoded[name] for name in ("input_ids", "attention_mask", TRUNCATED)}

    def completion_ids(self, tokenizer: Any, completions: Sequence[str]) -> list[list[int]]:
        """With the tokens that begin a text, as the tokenizer's `text_target` has them."""
        encoded = tokenizer(text_target=list(completions), verbose=False)
        return without_eos(encoded["input_ids"], tokenizer)

    def pieces(self, tokenizer: Any, ids: Sequence[int], labels: Sequence[int]) -> list[Piece]:
        return answered(tokenizer.decode(ids), tokenizer.decode(labels))

    def targets(self, labels: Tensor) -> Tensor:
        return labels

    def lengths(self, max_length: int, new_tokens: int | None, default: int) -> tuple[int, int]:
        new_tokens = min(default, max_length) if new_tokens is None else new_tokens
        if new_tokens > max_length:
            raise ConfigError(
                f"max_new_tokens is {new_tokens}, and a completion has {max_length} tokens at most "
                "(the model's maximum length, or data.max_length). Set --max-new-tokens "
                f"(decoding.max_new_tokens) to {max_length} or less."
            )
        return max_length, new_tokens

    def longest_completion(self, max_length: int) -> int:
        return max_length
