"""Keys of a raw state dict, without what torch.compile and PEFT's live models put into them.

    _orig_mod.q.lora_A                      q.lora_A
    q.lora_A.default.weight                 q.lora_A.weight
    e.lora_embedding_A.default              e.lora_embedding_A
    score.modules_to_save.default.weight    score.weight

`default` stands for the name of an adapter, which PEFT leaves out of the files that it saves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from lorakit.private.torch_names import COMPILED_CHILD

_NAMED = (
    re.compile(r"(\.lora_[AB])\.([^.]+)(\.weight|\.bias)$"),
    re.compile(r"(\.lora_embedding_[AB]|\.trainable_tokens_delta)\.([^.]+)()$"),
    re.compile(r"(\.lora_magnitude_vector)\.(?!weight$)([^.]+)(?:\.weight)?()$"),
)
"""Ends of keys: the tensor of an adapter, the adapter's name, and what PEFT's file has after it."""


def plain_keys(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by their plain keys, and why these are ambiguous, if they are."""
    keys = {key: _without_compile(key) for key in tensors}
    ends = {key: _named_end(name) for key, name in keys.items()}
    adapters = sorted({end[2] for end in ends.values() if end is not None})
    if len(adapters) > 1:
        return dict(tensors), [
            f"it contains {len(adapters)} adapters ({', '.join(adapters)}); save one of them alone"
        ]
    for key, end in ends.items():
        if end is not None:
            keys[key] = keys[key][: end.start()] + end[1] + end[3]
        elif adapters:
            keys[key] = keys[key].replace(f".modules_to_save.{adapters[0]}.", ".")
    return renamed(tensors, keys)


def renamed(
    tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by their new names, and which of them would get the same one."""
    keys: dict[str, list[str]] = {}
    for key in tensors:
        keys.setdefault(names[key], []).append(key)
    problems = [f"duplicate key: {' and '.join(same)}" for same in keys.values() if len(same) > 1]
    return {names[key]: tensor for key, tensor in tensors.items()}, problems


def _without_compile(key: str) -> str:
    if COMPILED_CHILD not in key:
        return key
    return ".".join(part for part in key.split(".") if part != COMPILED_CHILD)


def _named_end(name: str) -> re.Match[str] | None:
    ends = (pattern.search(name) for pattern in _NAMED)
    return next(filter(None, ends), None)
