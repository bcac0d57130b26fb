"""What to do about a tensor whose number of rows differs from the model's."""

from __future__ import annotations

from torch import nn

from lorakit.injection.selection.vocabulary import vocabulary_modules
from lorakit.injection.transfer.base_facts import label_count

Shape = tuple[int, ...]


class SizeHints:
    """Ends of error messages about one model."""

    def __init__(self, model: nn.Module) -> None:
        self._vocabulary = vocabulary_modules(model).keys()
        self._labels = label_count(model)

    def of(self, module: str, expected: Shape, got: Shape) -> str:
        """Another vocabulary, another number of labels, or nothing."""
        if expected[1:] != got[1:]:
            return ""
        if module in self._vocabulary:
            return f"; call model.resize_token_embeddings({got[0]}) first"
        if len(expected) == 2 and expected[0] == self._labels:
            return f"; load the base with num_labels={got[0]}"
        return ""
