"""Adapters merged into the checkpoint of their base, from file to file, without the model."""

from lorakit.merging.files import merge_files
from lorakit.merging.report import MergedFiles
from lorakit.merging.subtraction import Subtraction, subtract

__all__ = ["MergedFiles", "Subtraction", "merge_files", "subtract"]
