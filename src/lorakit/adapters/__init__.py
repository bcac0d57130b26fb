"""Many adapters on one base: each by its name, each row of a batch with its own.

one routing object: a default for all threads, rows in a context variable
"""

from lorakit.adapters.adapter_set import AdapterSet
from lorakit.adapters.loaded import Loaded

__all__ = ["AdapterSet", "Loaded"]
