"""Many finished runs side by side."""

from lorakit.experiments.comparison import Comparison, compare
from lorakit.experiments.glue_comparison import GlueComparison

__all__ = ["Comparison", "GlueComparison", "compare"]
