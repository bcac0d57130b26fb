"""What to do about a tensor whose number of rows differs from the model's."""

from __future__ import annotations

from torch import nn

from lorakit.injection.selection.vocabulary import vocabulary_modules
from lorakit.injection.transfer.base_facts import label_count

Shape = tuple[int, ...]


def size_hint(model: nn.Module, module: str, expected: Shape, got: Shape) -> str:
    """The end of an error message: another vocabulary, another number of labels, or nothing."""
    if expected[1:] != got[1:]:
        return ""
    if module in vocabulary_modules(model):
        return f"; call model.resize_token_embeddings({got[0]}) first"
    if len(expected) == 2 and expected[0] == label_count(model):
        return f"; load the base with num_labels={got[0]}"
    return ""
