"""Methods of fine-tuning and their registry: LoRA and what the paper compares it with."""

from lorakit.methods.additive import Additive
from lorakit.methods.base import Method
from lorakit.methods.files import load, load_adapter, save_adapter
from lorakit.methods.registry import METHODS, find, method_of, register
from lorakit.methods.saved_modules import MethodConfig
from lorakit.methods.selective import Selective
from lorakit.methods.tensor_method import TensorMethod

__all__ = [
    "METHODS",
    "Additive",
    "Method",
    "MethodConfig",
    "Selective",
    "TensorMethod",
    "find",
    "load",
    "load_adapter",
    "method_of",
    "register",
    "save_adapter",
]
