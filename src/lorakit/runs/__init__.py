"""The directory of a run: what lies in it, claimed and written atomically."""

from lorakit.runs.directory import RunResult

__all__ = ["RunResult"]
