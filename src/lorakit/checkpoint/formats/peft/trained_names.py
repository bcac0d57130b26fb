"""Names of the tensors in PEFT's files that are trained in full, there and back.

    in the file, after its prefix            in the model
    score.weight                             score.weight
    q.base_layer.bias                        q.bias                where q is adapted
    attn.base_layer.in_proj_bias             attn.in_proj_bias     where an attention is
    attn.base_layer.out_proj.base_layer.bias attn.out_proj.bias

A name in a module of `modules_to_save` is never taken apart, whatever words are in it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from lorakit.checkpoint.formats.peft.endings import Endings
from lorakit.checkpoint.formats.peft.layout import ALL_FACTORS, PREFIX

_BASE = "base_layer"
_OWN = {_BASE, *(ending.split(".")[1] for ending in ALL_FACTORS)}
"""Children that PEFT gives an adapted module."""

_WRAPPER = re.compile(r"\.(modules_to_save|original_module)\.")
"""PEFT keeps a trained module and its original in children of these names; with bias="all" it saves
both again, with or without the adapter's name, next to the module under its own name."""
_NAMED_WRAPPER = re.compile(r"\.modules_to_save\.[^.]+\.")


def encoded(name: str, adapted: Mapping[str, str]) -> str:
    """The name in a file, without the prefix; `adapted` has the adapted modules' names there."""
    module, _, leaf = name.rpartition(".")
    return f"{adapted[module]}.{_BASE}.{leaf}" if module in adapted else name


def decoded(name: str, adapted: Container[str], saved: Endings) -> str | None:
    """The name in the model; None if it is not that of a trained tensor.

    `name` is without the prefix, `adapted` are the adapted modules, `saved` is `modules_to_save`.
    """
    parts: list[str] = []
    for part in name.split("."):
        so_far = ".".join(parts)
        if part != _BASE or not (so_far in adapted or f"{so_far}.out_proj" in adapted):
            parts.append(part)
    plain = ".".join(parts)
    inside = _inside_saved(plain, saved)
    if inside is not None and not _WRAPPER.search(f".{inside}"):
        return plain
    is_foreign = _BASE in parts or _is_unsupported(name) or _WRAPPER.search(name)
    return None if is_foreign else plain


def refusal(key: str, trained: Container[str]) -> str | None:
    """What is wrong with a key of no trained tensor; None for a second copy of one of them."""
    name = key.removeprefix(PREFIX)
    if _is_unsupported(name):
        return f"unexpected key: {key} (this type of adapter is not supported)"
    if _WRAPPER.search(name):
        plain = (wrapper.sub(".", name) for wrapper in (_WRAPPER, _NAMED_WRAPPER))
        if any(map(trained.__contains__, plain)):
            return None
        return (
            f"{key} is a second copy that PEFT saves of a tensor, but the tensor itself is missing"
        )
    module = name.rpartition(f".{_BASE}.")[0].replace(f".{_BASE}.", ".")
    return f"{key} belongs to an adapted module, but lora_A and lora_B of {module} are missing"


def misread(name: str, adapted: Mapping[str, str], saved: Endings) -> bool:
    """Whether PEFT or `decoded` would take a trained tensor of this name for something else."""
    key = encoded(name, adapted)
    is_factor = any(f".{key}".endswith(ending) for ending in ALL_FACTORS)
    return (
        is_factor
        or not _OWN.isdisjoint(name.split(".")[:-1])
        or decoded(key, adapted, saved) != name
    )


def _is_unsupported(name: str) -> bool:
    return any(part == "token_adapter" or part.startswith("lora_") for part in name.split("."))


def _inside_saved(name: str, saved: Endings) -> str | None:
    """The rest of a name within the outermost module of `modules_to_save`; None outside of one."""
    for dot in re.finditer(r"\.", name):
        starts = (dot.start() - len(module) for module in saved.of(name, dot.start()))
        if any(start == 0 or name[start - 1] == "." for start in starts):
            return name[dot.end() :]
    return None
