"""The head of a classification model among the tensors of an adapter."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lorakit.checkpoint import AdapterBundle

HEADS = (
    "classifier",
    "classification_head",
    "score",
    "qa_outputs",
    "logits_proj",  # XLNet, beside a sequence_summary
    "sequence_summary",  # XLM
)
"""transformers' names of the modules whose last weight has a row for each label."""


def is_head(name: str) -> bool:
    """Whether a tensor of this name belongs to a head."""
    return name.split(".")[0] in HEADS


def output_layer(trained: Mapping[str, Tensor]) -> list[str]:
    """The matrix that has a row for each label, and its bias; empty without a head.

    DistilBERT's `pre_classifier` and the `dense` of RoBERTa's head come before it.
    """
    for head in HEADS:
        matrices = [
            name
            for name, tensor in trained.items()
            if name.split(".")[0] == head and tensor.ndim == 2 and "dense" not in name
        ]
        if matrices:
            module = matrices[-1].rpartition(".")[0]
            return [matrices[-1], *({f"{module}.bias"} & set(trained))]
    return []


def head_height(bundle: AdapterBundle) -> int | None:
    """The number of labels of an adapter's head: its file's, else the rows of its weight."""
    if bundle.num_labels is not None:
        return bundle.num_labels
    matrix = next(iter(output_layer(bundle.trained)), None)
    return None if matrix is None else bundle.trained[matrix].shape[0]
