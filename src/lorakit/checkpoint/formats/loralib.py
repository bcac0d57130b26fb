"""loralib's file: a pickled state dict with `<module>.lora_A`, `<module>.lora_B` and the head.

lorakit's own `lora_state_dict` may add a `lora_magnitude_vector` (DoRA) to a pair.

The file does not store lora_alpha, so the caller must pass it; rank and slices follow from the
shapes once the modules are known. The nesting of microsoft/LoRA's examples is removed:
`model_state_dict` around everything (NLG), others like it in any order, and the prefix `module.` of
every key (DistributedDataParallel).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, missing_factors, type_problem
from lorakit.checkpoint.formats import loralib_writing
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.formats.peft.layout import PREFIX
from lorakit.checkpoint.formats.raw_keys import plain_keys, renamed
from lorakit.checkpoint.formats.tensor_files import load_pickle, plain_tensors
from lorakit.checkpoint.settings import targets_of
from lorakit.config import LoraConfig
from lorakit.errors import FormatError, MissingAlphaError
from lorakit.variants import VARIANTS, AdapterSpec, ModuleAdapter

_DEEPEST = 10
"""Wrappers that are taken off; a pickle can contain itself."""
_WRAPPERS = ("model_state_dict", "state_dict", "model")
_DDP = "module."
_PEFTS_FACTOR = re.compile(r"\.lora_(?:embedding_)?([AB])(?:\.weight)?$")
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_MAGIC = (b"PK\x03\x04", b"\x80")
"""How a zip archive (torch.save's files) and a bare pickle (those before torch 1.6) begin."""


class Loralib(Codec):
    """Any file of torch.save that no other format recognises; written as `*.pt` or `*.bin`."""

    name = "loralib"
    suffixes = _SUFFIXES
    is_fallback = True

    def sniff(self, path: Path) -> bool:
        if not path.is_file() or path.suffix == ".safetensors":
            return False
        return path.suffix in _SUFFIXES or _begins_as_a_pickle(path)

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        return decode(load_pickle(path), lora_alpha)

    def problems(self, bundle: AdapterBundle) -> list[str]:
        return loralib_writing.unsupported(bundle)

    def in_form(self, bundle: AdapterBundle) -> AdapterBundle:
        return loralib_writing.in_form(bundle)

    def reader_options(self, form: AdapterBundle) -> Mapping[str, float]:
        return {"lora_alpha": form.config.lora_alpha}

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        loralib_writing.save(bundle, path)


def _begins_as_a_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4).startswith(_MAGIC)


def decode(content: Any, lora_alpha: float | None) -> AdapterBundle:
    """The bundle that an unpickled loralib file holds.

    Raises FormatError for anything else, listing every missing lora_A or lora_B and unexpected
    base weights; MissingAlphaError if `lora_alpha` is None.
    """
    plain, key_problems = plain_keys(_unwrap(content))
    tensors, name_problems = _in_loralibs_names(plain)
    known = {name for variant in VARIANTS.values() for name in variant.tensor_names}
    parts = {key: key.rpartition(".") for key in tensors}
    adapted = {module for module, _, leaf in parts.values() if leaf in ("lora_A", "lora_B")}
    pairs: dict[str, dict[str, Tensor]] = {}
    trained: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        module, _, leaf = parts[key]
        if leaf in known and (module in adapted or "lora_" in leaf):
            pairs.setdefault(module, {})[leaf] = tensor
        else:
            trained[key] = tensor
    trained = {_own_name(key, pairs): tensor for key, tensor in trained.items()}
    problems = key_problems + name_problems + _problems(tensors, pairs, trained)
    if problems:
        raise FormatError("Not a valid loralib adapter:", problems)
    if lora_alpha is None:
        raise MissingAlphaError(
            "A loralib file does not store lora_alpha, and the scaling depends on it. Pass the "
            "value that was used in training (lora_alpha=..., --lora-alpha); microsoft/LoRA's "
            "scripts use 16 for RoBERTa and 32 for DeBERTa and GPT-2."
        )
    adapters = {module: _adapter(pair, lora_alpha) for module, pair in pairs.items()}
    variants = {adapter.spec.variant for adapter in adapters.values()}
    config = LoraConfig(
        r=min(adapter.spec.r for adapter in adapters.values()),
        lora_alpha=lora_alpha,
        **targets_of(adapters),
        variant=next(name for name in reversed(VARIANTS) if name in variants),
    )
    return AdapterBundle(config, adapters, trained, targets_stated=False, format=Loralib.name)


def _problems(
    tensors: Mapping[str, Any], pairs: dict[str, dict[str, Tensor]], trained: dict[str, Tensor]
) -> list[str]:
    """Everything that keeps these tensors from being an adapter."""
    complete = {m: pair for m, pair in pairs.items() if missing_factors(m, pair) is None}
    problems = [p for module, pair in pairs.items() if (p := missing_factors(module, pair))]
    problems += [
        f"{module}.weight is a base weight, so this is the checkpoint of a whole model (if loralib "
        "saved it in eval mode, the adapter may be merged into it); save the adapter alone, with "
        "lora_state_dict(model) in training mode"
        for module in pairs
        if f"{module}.weight" in trained
    ][:1]
    problems += [p for key, t in tensors.items() if (p := type_problem(key, t))]
    problems += [
        f"{module}: expected 2-dimensional lora_A and lora_B, got shapes "
        f"{tuple(pair['lora_A'].shape)} and {tuple(pair['lora_B'].shape)}"
        for module, pair in complete.items()
        if {pair["lora_A"].ndim, pair["lora_B"].ndim} != {2}
    ]
    problems += [
        f"{module} has {', '.join(pair)}, but no variant has exactly these tensors"
        for module, pair in complete.items()
        if _variant_of(pair) is None
    ]
    if not pairs:
        problems.append("it contains no lora_A and lora_B")
    return problems


def _adapter(tensors: Mapping[str, Tensor], lora_alpha: float) -> ModuleAdapter:
    """The site, and with it the final rank, is resolved with the module."""
    r, variant = tensors["lora_B"].shape[1], _variant_of(tensors)
    assert variant is not None
    return ModuleAdapter(AdapterSpec(r, lora_alpha, variant=variant), tensors)


def _variant_of(tensors: Mapping[str, Tensor]) -> str | None:
    """The variant that has exactly these tensors, if there is one."""
    names = tensors.keys()
    return next((name for name, v in VARIANTS.items() if set(v.tensor_names) == names), None)


def _own_name(key: str, modules: Container[str]) -> str:
    """`a.conv.bias` as `a.bias`: loralib keeps an adapted convolution in a child called conv."""
    child, _, leaf = key.rpartition(".")
    module, _, last = child.rpartition(".")
    return f"{module}.{leaf}" if last == "conv" and module in modules else key


def _in_loralibs_names(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Without a prefix that all keys have, and PEFT's `q.lora_A.weight` as `q.lora_A`."""
    for prefix in (_DDP, PREFIX):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return renamed(tensors, {key: _PEFTS_FACTOR.sub(r".lora_\1", key) for key in tensors})


def _unwrap(content: Any) -> dict[str, Tensor]:
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        inner = [content[w] for w in _WRAPPERS if isinstance(content.get(w), Mapping)]
        if not inner:
            break
        content = inner[0]
    return plain_tensors(content)
