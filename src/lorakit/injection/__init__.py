"""Adapters into and out of a live model, on and off disk.

What users need of this room is public as `lorakit.inject`, `lorakit.merged` and so on.
"""
