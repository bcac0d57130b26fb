"""Base models through transformers: loading, dtypes, attention, heads, processes."""

from lorakit.models.loading import load_base, load_for_task

__all__ = ["load_base", "load_for_task"]
