"""The architectures of language models, as values in a table: decoders and encoder-decoders."""

from __future__ import annotations

from typing import Any

from lorakit.tasks.text_models.base import TextModel
from lorakit.tasks.text_models.decoder import Decoder
from lorakit.tasks.text_models.encoder_decoder import EncoderDecoder

__all__ = ["DECODER", "TEXT_MODELS", "TextModel", "text_model_of"]

DECODER, _ENCODER_DECODER = Decoder(), EncoderDecoder()
TEXT_MODELS: dict[str, TextModel] = {model.name: model for model in (DECODER, _ENCODER_DECODER)}
"""By the name in task files."""


def text_model_of(config: Any) -> TextModel:
    """The architecture that `config`, of transformers, is for."""
    return _ENCODER_DECODER if config.is_encoder_decoder else DECODER
