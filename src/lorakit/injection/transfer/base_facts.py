"""What a file stores about its base model, apart from the weights' fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


def base_facts(model: nn.Module, trained: Sequence[str]) -> dict[str, Any]:
    """An AdapterBundle's base_model, base_class, task_type and num_labels.

    `trained` names the modules that are saved in full, such as the head.
    """
    return {
        "base_model": _base_name(model),
        "base_class": (type(model).__module__, type(model).__name__),
        "task_type": _task_type(model, trained),
        "num_labels": label_count(model) if trained else None,
    }


def _base_name(model: nn.Module) -> str | None:
    name = getattr(getattr(model, "config", None), "name_or_path", None)
    return name or None


def base_config(model: nn.Module) -> Mapping[str, Any] | None:
    """The config of a transformers model, for formats whose names depend on it."""
    to_dict = getattr(getattr(model, "config", None), "to_dict", None)
    config = to_dict() if callable(to_dict) else None
    return config if isinstance(config, Mapping) else None


def label_count(model: nn.Module) -> int | None:
    """`num_labels` of the model's transformers config."""
    labels = getattr(getattr(model, "config", None), "num_labels", None)
    return labels if type(labels) is int and labels > 0 else None


def _task_type(model: nn.Module, trained: Sequence[str]) -> str | None:
    """PEFT's task type, for models of token ids: with one, PEFT's model passes those on.

    Classification only with its head, since PEFT then expects one.
    """
    if getattr(model, "main_input_name", None) != "input_ids":
        return None
    name = type(model).__name__
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    if name.endswith("ForConditionalGeneration"):
        encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", True)
        return "SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM"  # which reads images beside the text
    has_head = any(part in ("classifier", "score") for part in trained)
    if name.endswith("ForSequenceClassification") and has_head:
        return "SEQ_CLS"
    return "TOKEN_CLS" if name.endswith("ForTokenClassification") and has_head else None
