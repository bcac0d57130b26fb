"""New adapter files from other files, without a model: another format, a sum, a difference."""

from lorakit.derivation.conversion import Conversion, convert
from lorakit.derivation.extraction import extract

__all__ = ["Conversion", "convert", "extract"]
