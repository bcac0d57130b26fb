"""The runs of a sweep on a Ray cluster."""

from lorakit.experiments.ray_runs.cluster import Share
from lorakit.experiments.ray_runs.executor import on_ray

__all__ = ["Share", "on_ray"]
