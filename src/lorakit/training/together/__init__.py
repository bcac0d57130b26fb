"""Several runs over one base at once: their rows in one mixed batch, each with its own adapter.

Each is an ordinary run with a Trainer of its own, and so with its own optimizer, schedule,
clipping, checkpoints, evaluation and early stopping; what they share is the forward and backward of
the base.
"""

from lorakit.training.together.runs import require_shareable, sharing_key, train_together

__all__ = ["require_shareable", "sharing_key", "train_together"]
