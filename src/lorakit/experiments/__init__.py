"""Many finished runs side by side."""

from lorakit.experiments.comparison import Comparison, compare
from lorakit.experiments.glue_comparison import GlueComparison
from lorakit.experiments.latency import (
    Latency,
    LatencyStudy,
    LatencyTable,
    Spread,
    measure_latency,
)

__all__ = [
    "Comparison",
    "GlueComparison",
    "Latency",
    "LatencyStudy",
    "LatencyTable",
    "Spread",
    "compare",
    "measure_latency",
]
