"""Match the tensors of a file that are trained in full (heads, biases) to those of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.config import is_bias
from lorakit.errors import SUGGESTIONS, suggest
from lorakit.injection import trained_copies
from lorakit.injection.selection.naming import ending_in_any, within_any
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.injection.transfer.size_hints import SizeHints
from lorakit.injection.transfer.untying import one_of_one_module
from lorakit.layer_groups import without_indices


def place_trained(
    modules: Mapping[str, nn.Module], bundle: AdapterBundle, sizes: SizeHints
) -> tuple[dict[str, Slot], list[tuple[str, str]]]:
    """The place of each tensor that fits, by its name, and (name, what is wrong) of the others."""
    places: dict[str, Slot] = {}
    problems = []
    owners = [name.rpartition(".")[0] for name in bundle.trained]
    hints = closest([owner for owner in owners if owner not in modules], modules)
    for name, value in bundle.trained.items():
        owner, _, leaf = name.rpartition(".")
        module = modules.get(owner)
        tensors = {**module._parameters, **module._buffers} if module is not None else {}
        here = tensors.get(leaf)
        if owner in bundle.adapters and not is_bias(leaf):
            problems.append((name, ANOTHER_WEIGHT))
        elif module is None or here is None:
            text = f"is unexpected: the model has no such parameter{hints.get(owner, '')}"
            problems.append((name, f"{text}; load a base with that head"))
        elif here.shape != value.shape:
            expected, got = tuple(here.shape), tuple(value.shape)
            hint = sizes.of(owner, expected, got)
            text = f"has a size mismatch: expected {expected}, got {got}{hint}"
            problems.append((name, text))
        else:
            places[name] = module, leaf
    problems += one_of_one_module(places, bundle.trained)
    return places, problems + _missing_saved_tensors(modules, bundle)


ANOTHER_WEIGHT = (
    "is the base weight of an adapted module and differs from this model's; load the base that the "
    "adapter was trained on, with the same resized vocabulary"
)


def closest(names: Iterable[str], modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """The closest names in the model for the first of these; similar layers share one."""
    groups = Counter(map(without_indices, dict.fromkeys(names)))
    patterns = sorted(set(map(without_indices, modules)))
    found: dict[str, str] = {}
    hints = {}
    for name in names:
        alike = without_indices(name)
        asked, there = (name, list(modules)) if groups[alike] == 1 else (alike, patterns)
        if asked not in found:
            found[asked] = suggest(asked, there) if len(found) < SUGGESTIONS else ""
        hints[name] = found[asked]
    return hints


def saved_modules(names: Iterable[str], bundle: AdapterBundle) -> list[str]:
    """Those of these modules that `modules_to_save` of the file's config names."""
    return ending_in_any(names, bundle.config.modules_to_save or ())


def _missing_saved_tensors(
    modules: Mapping[str, nn.Module], bundle: AdapterBundle
) -> list[tuple[str, str]]:
    """Tensors of `modules_to_save` in the config that are missing from the file.

    Names without a module are allowed: PEFT writes "classifier" and "score" for every classifier.
    """
    return [
        (f"{name}.{leaf}", "is in modules_to_save of the file's config, but missing from the file")
        for name in saved_modules(modules, bundle)
        for leaf in modules[name].state_dict()
        if f"{name}.{leaf}" not in bundle.trained
    ]


def without_base_copies(model: nn.Module, bundle: AdapterBundle) -> AdapterBundle:
    """The bundle without base weights that are bit-identical to the model's.

    With an adapted embedding PEFT also stores its whole weight, and after resizing the head's; a
    weight that equals the model's is neither trained nor part of the adapter.
    """
    here, copied = model.state_dict(), set(trained_copies.names(model))
    saved = set(saved_modules(dict(model.named_modules(remove_duplicate=False)), bundle))
    kept = {
        name: value
        for name, value in bundle.trained.items()
        if name in copied
        or name.rpartition(".")[2] != "weight"
        or within_any(name.rpartition(".")[0], saved)
        or not _is_same(here.get(name), value, name.rpartition(".")[0] in bundle.adapters)
    }
    return replace(bundle, trained=kept)


def _is_same(here: Tensor | None, value: Tensor, adapted: bool) -> bool:
    """Whether the values are equal; an adapted weight on the meta device counts as equal."""
    if here is None or here.shape != value.shape:
        return False
    if here.is_meta:
        return adapted
    return torch.equal(here, value.to(here.device, here.dtype))
