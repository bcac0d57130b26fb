"""Bases through transformers: loading, dtypes, attention, merging, processes."""
