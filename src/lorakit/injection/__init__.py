"""Inject, remove, load and save the adapters of a live model.

The public functions are `lorakit.inject`, `lorakit.merged` and so on.
"""
