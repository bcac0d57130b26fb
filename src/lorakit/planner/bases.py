"""The model that a training of a base would have, on the meta device."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch

from lorakit.errors import ConfigError, FormatError, suggest
from lorakit.foreign_files import local_path
from lorakit.models.buildable import require_buildable
from lorakit.models.loading import load_config
from lorakit.planner.cards import CARDS, HUB_IDS

_CONFIG_FILE = "config.json"


def config_of(name: str, revision: str | None = None) -> Any:
    """transformers' config of a directory, its config.json, a card, or a hub id, in this order.

    Where the Hub does not answer, a card of that very model does. A revision is one of the Hub's.

    Raises FormatError if there is none.
    """
    import transformers

    place = local_path(name)
    if place.name == _CONFIG_FILE and place.is_file():
        return load_config(str(place.parent))
    if revision is None and not place.exists() and name in CARDS:
        kind, settings = CARDS[name]
        return transformers.AutoConfig.for_model(kind, **settings)
    try:
        return load_config(name, revision)
    except FormatError as error:
        if revision is None and name in HUB_IDS:
            return config_of(HUB_IDS[name])
        cards = f"Cards that need no download{suggest(name, CARDS)}: {', '.join(CARDS)}"
        raise FormatError(f"{error} {cards}.") from error


def model_of(model_or_config: Any) -> Any:
    """A transformers model as it is, and of a config its model on meta.

    Raises ConfigError for anything else, and as `model_on_meta`.
    """
    import transformers

    is_module = isinstance(model_or_config, torch.nn.Module)
    own = getattr(model_or_config, "config", None)
    if is_module and isinstance(own, transformers.PretrainedConfig):
        return model_or_config
    if isinstance(model_or_config, transformers.PretrainedConfig):
        return model_on_meta(model_or_config)
    found = f"A {type(model_or_config).__name__}" if is_module else repr(model_or_config)
    raise ConfigError(
        f"{found} cannot be planned: pass a transformers model or its config, such as "
        "AutoConfig.from_pretrained gives; `lorakit plan` takes names."
    )


def model_on_meta(config: Any, name: str | None = None) -> Any:
    """A language model of a decoder or encoder-decoder, a classifier of two labels of an encoder.

    Raises FormatError for a config of which no model can be built.
    """
    import transformers

    name = name or f"a {type(config).__name__}"
    require_buildable(name, config)
    auto_class = _auto_class(config)
    if auto_class == _CLASSIFIER:
        config = copy(config)
        config.problem_type = "single_label_classification"  # else some look at the labels' values
    try:
        with torch.device("meta"):
            return getattr(transformers, auto_class).from_config(config)
    except Exception as error:  # a model's constructor raises whatever a broken config leads to
        raise FormatError(f"No model can be built from the config of {name}: {error}") from error


_CLASSIFIER = "AutoModelForSequenceClassification"


def _auto_class(config: Any) -> str:
    import transformers

    if getattr(config, "is_encoder_decoder", False):
        return "AutoModelForSeq2SeqLM"
    kind = type(config)
    generates = kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    fills_blanks = kind in transformers.MODEL_FOR_MASKED_LM_MAPPING
    return "AutoModelForCausalLM" if generates and not fills_blanks else _CLASSIFIER
