"""Checkpoints of models as files: read and written tensor by tensor, never as a whole.

A checkpoint is a directory with one file of weights or an index and several (shards), as
transformers saves and reads them; config and tokenizer beside them are no concern of this room.
"""

from lorakit.base_checkpoints.progress import Bar, Progress, told, untold
from lorakit.base_checkpoints.reading import BaseCheckpoint, open_checkpoint
from lorakit.base_checkpoints.sharding import Cut, cut_again, cut_alike
from lorakit.base_checkpoints.stored import StoredTensor
from lorakit.base_checkpoints.writing import write_checkpoint

__all__ = [
    "Bar",
    "BaseCheckpoint",
    "Cut",
    "Progress",
    "StoredTensor",
    "cut_again",
    "cut_alike",
    "open_checkpoint",
    "told",
    "untold",
    "write_checkpoint",
]
