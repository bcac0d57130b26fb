"""What methods cost in inference, over batch and length."""

from lorakit.experiments.latency.measurement import measure_latency
from lorakit.experiments.latency.study import LatencyStudy
from lorakit.experiments.latency.table import Latency, LatencyTable, Spread

__all__ = ["Latency", "LatencyStudy", "LatencyTable", "Spread", "measure_latency"]
