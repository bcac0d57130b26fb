"""Which class of transformers a base is loaded as: the adapter's, the task's, or the base's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import FormatError, MismatchError
from lorakit.models.heads import is_head

_AUTO_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
}

_ARCHITECTURES = {
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "AutoModelForSeq2SeqLM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "AutoModelForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "AutoModelForTokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING",
    "AutoModelForImageClassification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "AutoModelForMultipleChoice": "MODEL_FOR_MULTIPLE_CHOICE_MAPPING",
}
"""The auto classes to look for a base's own class in, and transformers' mapping for each."""
LANGUAGE_MODELS = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


def require_class(transformers: Any, config: Any, auto_class: str, name: str) -> None:
    """Raise FormatError if transformers has no class of this kind for the base.

    A config that names its own code (`auto_map`) and other auto classes are left to transformers.
    """
    table = _ARCHITECTURES.get(auto_class)
    if table is None or getattr(config, "auto_map", None):
        return
    if type(config) not in getattr(transformers, table):
        raise FormatError(
            f"The base model {name} is a {config.model_type} model, for which transformers has no "
            f"class of {auto_class}, which this task trains; choose another base or task."
        )


def class_of(transformers: Any, config: Any, bundle: AdapterBundle | None = None) -> Any:
    """The class that the adapter was saved from, else the one for its task, else the base's own."""
    if bundle is not None and bundle.base_class is not None:
        library, name = bundle.base_class
        if library.startswith("transformers.") and hasattr(transformers, name):
            return _fitting(getattr(transformers, name), config)
    if bundle is not None and bundle.task_type in _AUTO_CLASSES:
        return getattr(transformers, _AUTO_CLASSES[bundle.task_type])
    if bundle is not None and any(is_head(name) for name in bundle.trained):
        return transformers.AutoModelForSequenceClassification
    return _own_auto_class(transformers, config)


def _fitting(model_class: Any, config: Any) -> Any:
    """The class; raises MismatchError if it is not one for this base."""
    if not isinstance(config, model_class.config_class):
        raise MismatchError(
            f"The adapter was saved from a {model_class.__name__}, and the base is a "
            f"{config.model_type} model; pass the base that it was trained on."
        )
    return model_class


def _own_auto_class(transformers: Any, config: Any) -> Any:
    """The auto class of the architecture that the base's config names."""
    own = next(iter(config.architectures or ()), None)
    for auto, table in _ARCHITECTURES.items():
        mapping: Mapping[Any, Any] = getattr(transformers, table)
        if type(config) in mapping and getattr(mapping[type(config)], "__name__", None) == own:
            return getattr(transformers, auto)
    return transformers.AutoModel
