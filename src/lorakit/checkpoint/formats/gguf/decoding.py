"""From a GGUF file's metadata and tensors to an AdapterBundle; one error lists everything wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats import forms
from lorakit.checkpoint.formats.facts import in_own_names, with_facts
from lorakit.checkpoint.formats.gguf.architectures import (
    Architecture,
    as_rotated,
    is_transposed,
)
from lorakit.checkpoint.settings import targets_of
from lorakit.config import LARGEST_RANK, LoraConfig, is_number
from lorakit.errors import FormatError
from lorakit.variants import AdapterSpec, EmbeddingSite, LinearSite, ModuleAdapter

A, B = ".lora_a", ".lora_b"
TABLE = "token_embd.weight"
ALPHA = "adapter.lora.alpha"
KINDS: Mapping[str, str] = {"general.type": "adapter", "adapter.type": "lora"}

Pairs = Mapping[str, tuple[Tensor, Tensor]]


def require_adapter(path: Path, metadata: Mapping[str, Any]) -> None:
    """Raise FormatError for a file of something else, such as a model."""
    problems = [
        f"{key} is {metadata.get(key)!r}, not {value!r}"
        for key, value in KINDS.items()
        if metadata.get(key) != value
    ]
    if problems:
        raise FormatError(f"{path} holds no adapter of LoRA:", problems)


def decode(
    path: Path,
    metadata: Mapping[str, Any],
    facts: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    base: Architecture | None,
    lora_alpha: float | None,
) -> AdapterBundle:
    """The bundle in the file; names and heads are those of its header, else of `base`.

    Raises FormatError, also if neither says them.
    """
    alpha: Any = metadata.get(ALPHA)
    kind = str(metadata.get("general.architecture"))
    problems = []
    if not is_number(alpha) or alpha <= 0:
        problems.append(f"{ALPHA} is {alpha!r}; it must be a number > 0")
    elif lora_alpha not in (None, alpha):
        problems.append(f"lora_alpha={lora_alpha:g} was passed, but the file says {alpha:g}")
    modules, heads = facts.get("modules"), facts.get("heads") or {}
    if modules is None and base is not None and base.name != kind:
        problems.append(f"it is for a base of architecture {kind}, and this one is {base.name}")
    pairs = dict(_pairs(tensors, problems))
    if problems:
        raise FormatError(f"{path} cannot be loaded:", problems)
    if modules is None and base is None:
        raise FormatError(
            f"{path} has llama.cpp's names, and the order of its rows depends on the base: pass "
            "the base (--base; read(..., base=its config as a dict))."
        )
    found = {
        name: _adapter(name, pair, alpha, kind, heads.get(name) if modules else _heads(base, name))
        for name, pair in pairs.items()
    }
    adapters = in_own_names(found, facts, path)
    bundle = AdapterBundle(
        LoraConfig(lora_alpha=alpha, **targets_of(adapters)),
        adapters,
        spelling=None if modules is not None or base is None else base.tensor_of,
        targets_stated=False,
        format="gguf",
    )
    return with_facts(forms.with_adapters(bundle, adapters), facts)


def _heads(base: Architecture | None, name: str) -> int | None:
    return None if base is None else base.heads_of(name)


def _pairs(
    tensors: Mapping[str, Tensor], problems: list[str]
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """A and B by name of their tensor in llama.cpp; what is wrong is added to `problems`."""
    names = [name.removesuffix(A) for name in tensors if name.endswith(A)]
    expected = {f"{name}{leaf}" for name in names for leaf in (A, B)}
    problems += [f"{name} is unexpected" for name in tensors.keys() - expected]
    problems += [f"{name} is missing" for name in sorted(expected - tensors.keys())]
    if not names:
        problems.append("it has no lora_a and lora_b")
    for name in names:
        if f"{name}{B}" not in tensors:
            continue
        a, b = tensors[f"{name}{A}"], tensors[f"{name}{B}"]
        shapes = f"lora_a {tuple(a.shape)} and lora_b {tuple(b.shape)}"
        if a.ndim != 2 or b.ndim != 2 or 0 in (*a.shape, *b.shape):
            problems.append(f"{name}: expected two matrices, got {shapes}")
            continue
        a = a.t() if name == TABLE else a
        if len(a) != b.shape[1] or len(a) > LARGEST_RANK:
            problems.append(f"{name}: the ranks of {shapes} differ, or are above {LARGEST_RANK}")
        else:
            yield name, (a.contiguous(), b)


def _adapter(
    name: str, pair: tuple[Tensor, Tensor], alpha: float, kind: str, heads: int | None
) -> ModuleAdapter:
    a, b = pair
    if heads is not None:
        if heads < 1 or len(b) % (2 * heads):
            raise FormatError(f"{name} has {len(b)} rows, which are no {heads} heads.")
        b = as_rotated(b, heads)
    site = (
        EmbeddingSite(a.shape[1], len(b))
        if name == TABLE
        else LinearSite(a.shape[1], len(b), is_transposed(kind, name))
    )
    return ModuleAdapter(AdapterSpec(len(a), alpha), {"lora_A": a, "lora_B": b}, site)
