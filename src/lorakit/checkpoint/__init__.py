"""Adapter files without a model: file <-> AdapterBundle, one codec per format."""

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.codec import Codec, Decoder
from lorakit.checkpoint.formats.registry import FORMATS, register
from lorakit.checkpoint.reading import read
from lorakit.checkpoint.writing import write

__all__ = ["FORMATS", "AdapterBundle", "Codec", "Decoder", "read", "register", "write"]
