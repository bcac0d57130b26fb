"""The model that a training of a base would have, on the meta device."""

from __future__ import annotations

from typing import Any

import torch

from lorakit.errors import FormatError
from lorakit.models.buildable import require_buildable


def model_on_meta(config: Any, name: str | None = None) -> Any:
    """A language model of a decoder or encoder-decoder, a classifier of two labels of an encoder.

    Raises FormatError for a config of which no model can be built.
    """
    import transformers

    name = name or f"a {type(config).__name__}"
    require_buildable(name, config)
    try:
        with torch.device("meta"):
            return getattr(transformers, _auto_class(config)).from_config(config)
    except Exception as error:  # a model's constructor raises whatever a broken config leads to
        raise FormatError(f"No model can be built from the config of {name}: {error}") from error


def _auto_class(config: Any) -> str:
    import transformers

    if getattr(config, "is_encoder_decoder", False):
        return "AutoModelForSeq2SeqLM"
    kind = type(config)
    generates = kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    fills_blanks = kind in transformers.MODEL_FOR_MASKED_LM_MAPPING
    return (
        "AutoModelForCausalLM"
        if generates and not fills_blanks
        else "AutoModelForSequenceClassification"
    )
