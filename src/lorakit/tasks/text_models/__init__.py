"""The architectures of language models, as values in a table: decoders and encoder-decoders."""

from __future__ import annotations

from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.text_models.base import TextModel
from lorakit.tasks.text_models.decoder import Decoder
from lorakit.tasks.text_models.encoder_decoder import EncoderDecoder

__all__ = ["DECODER", "TEXT_MODELS", "TextModel", "text_model_of"]

DECODER, _ENCODER_DECODER = Decoder(), EncoderDecoder()
TEXT_MODELS: dict[str, TextModel] = {model.name: model for model in (DECODER, _ENCODER_DECODER)}
"""By the name in task files."""


def text_model_of(config: Any) -> TextModel:
    """The architecture that `config`, of transformers, is for.

    Raises ConfigError for an encoder, such as BERT, which writes no text.
    """
    if config.is_encoder_decoder:
        return _ENCODER_DECODER
    if _is_encoder(config):
        raise ConfigError(
            f"The base is an encoder ({config.model_type}), which writes no text; for this task "
            "use a decoder (GPT-2, Llama, SmolLM2) or an encoder-decoder (T5, BART). One that was "
            "trained as a decoder has is_decoder: true in its config.json."
        )
    return DECODER


def _is_encoder(config: Any) -> bool:
    """Whether it is of a kind that fills masks, and does not say that it is a causal one."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    causal = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not causal
