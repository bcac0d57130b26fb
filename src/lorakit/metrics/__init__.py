"""Each metric names the tool that it agrees with."""

from lorakit.metrics.classification import classification_metrics
from lorakit.metrics.regression import regression_metrics

__all__ = ["classification_metrics", "regression_metrics"]
