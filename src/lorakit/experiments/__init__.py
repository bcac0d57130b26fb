"""Many runs side by side: sweeps, which make them, and tables of what came of them."""

from lorakit.experiments.jobs import Job, Outcome
from lorakit.experiments.latency import (
    Latency,
    LatencyStudy,
    LatencyTable,
    Spread,
    measure_latency,
)
from lorakit.experiments.renderers import RENDERERS
from lorakit.experiments.run_comparison import compare
from lorakit.experiments.running import run_sweep
from lorakit.experiments.table import Table

__all__ = [
    "RENDERERS",
    "Job",
    "Latency",
    "LatencyStudy",
    "LatencyTable",
    "Outcome",
    "Spread",
    "Table",
    "compare",
    "measure_latency",
    "run_sweep",
]
