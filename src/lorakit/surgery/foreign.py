"""Modules of PEFT in a model: lorakit's adapters stand beside weights and not around modules.

PEFT wraps a layer (`q_proj` becomes `q_proj.base_layer`), so its layers have the names of other
layers, and their weights are under other names. transformers adds them by itself to a model from a
directory with an adapter_config.json.
"""

from __future__ import annotations

from torch import nn

from lorakit.errors import StateError


def require_no_peft(model: nn.Module) -> None:
    """Raise StateError for a model with PEFT's modules, with what to do."""
    found = {name: _name(module) for name, module in model.named_modules() if _is_pefts(module)}
    if not found:
        return
    first, kind = next(iter(found.items()))
    raise StateError(
        f"This {type(model).__name__} has {len(found)} modules of PEFT ({first or 'itself'}: {kind}"
        f"{', ...' if len(found) > 1 else ''}), and lorakit works on a model without them:",
        [
            "a PeftModel becomes plain with its merge_and_unload(), or with unload() without its "
            "adapter",
            "transformers adds them to a model from a directory with an adapter_config.json: load "
            "it with from_pretrained(directory, adapter_kwargs={'subfolder': 'none'}), and the "
            "adapter with lorakit.load_adapter(model, directory)",
        ],
    )


def _is_pefts(module: nn.Module) -> bool:
    return any(c.__module__.partition(".")[0] == "peft" for c in type(module).__mro__)


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
