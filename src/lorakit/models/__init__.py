"""Base models through transformers: loading, dtypes, attention, merging, processes."""

from lorakit.models.loading import load_base, load_for_task
from lorakit.models.merging import merge_to_directory

__all__ = ["load_base", "load_for_task", "merge_to_directory"]
