"""`AdapterBundle`: an adapter without a model, which every file format reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lorakit.config import LoraConfig
from lorakit.functional.finite import is_finite
from lorakit.text import settings
from lorakit.variants import ModuleAdapter, RowsSite

_FACTOR_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class AdapterBundle:
    """Configuration and tensors of one adapter, or of what another method trained.

    `config` is that of LoRA, `adapters` maps module names to adapters, and `trained` maps full
    names to the tensors that were trained in full (heads, biases).

    >>> import torch
    >>> from lorakit.variants import AdapterSpec, LinearSite
    >>> tensors = {"lora_A": torch.ones(1, 4), "lora_B": torch.ones(4, 1)}
    >>> adapter = ModuleAdapter(AdapterSpec(1), tensors, LinearSite(4, 4))
    >>> bundle = AdapterBundle(adapters={"layer.0.query": adapter})
    >>> {name: round(adapter.norm(), 3) for name, adapter in bundle.adapters.items()}
    {'layer.0.query': 4.0}
    """

    config: LoraConfig = field(default_factory=LoraConfig)
    adapters: Mapping[str, ModuleAdapter] = field(default_factory=dict)
    trained: Mapping[str, Tensor] = field(default_factory=dict)
    base_model: str | None = None
    """Hub id or path of the base, as its config names it."""
    base_class: tuple[str, str] | None = None
    """(module, class) of the model that the adapter was saved from."""
    task_type: str | None = None
    """PEFT's name of the task: CAUSAL_LM, SEQ_CLS, ..."""
    fingerprint: Mapping[str, str] | None = None
    """The base weights' fingerprint by dtype; see `lorakit.checkpoint.fingerprint`."""
    num_labels: int | None = None
    """`num_labels` of the transformers config that a saved head was built for."""
    method: str = "lora"
    """The name of the method that trained these tensors."""
    method_config: Mapping[str, Any] = field(default_factory=dict)
    """The config of a method other than LoRA, in values that JSON has."""
    spelling: Callable[[str], str | None] | None = None
    """For a format with its own module names: how it writes a module's name; see `late_names`."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Name of a module -> the name that its file has, where that is another one."""
    targets_stated: bool = True
    """Whether the file stores `config.target_modules`; if not, they are its tensors' modules."""
    unknown_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings in the file that lorakit does not know; they could mean another function."""
    format: str = "peft"
    """The name of the file format that it was read from."""
    checksum: str | None = None
    """The checksum in its file, if there is one; the content had it when it was read."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name in an adapted model's state_dict."""
        result: dict[str, Tensor] = {}
        for name, adapter in self.adapters.items():
            result |= {f"{name}.{leaf}": tensor for leaf, tensor in adapter.tensors.items()}
        return result | dict(self.trained)

    @property
    def base_copies(self) -> dict[str, Tensor]:
        """Weights of the base itself, which PEFT's files have of adapted embeddings."""
        adapters = self.adapters.items()
        weights = {f"{name}.weight" for name, x in adapters if not isinstance(x.site, RowsSite)}
        return {name: tensor for name, tensor in self.trained.items() if name in weights}


def not_finite(bundle: AdapterBundle) -> list[str]:
    """How many values of each tensor are NaN or infinite, where any are."""
    return [
        f"{name}: {int((~tensor.isfinite()).sum())} of {tensor.numel()} values are NaN or infinite"
        for name, tensor in bundle.tensors.items()
        if not is_finite(tensor)
    ]


def type_problem(key: str, tensor: Tensor) -> str | None:
    """What is wrong with the dtype of a tensor in a file: A and B are floats of 16 bits or more."""
    is_small_float = tensor.is_floating_point() and tensor.dtype not in _FACTOR_TYPES
    is_factor = key.removesuffix(".weight").rpartition(".")[2].startswith("lora_")
    if is_small_float or (is_factor and tensor.dtype not in _FACTOR_TYPES):
        return f"{key} has dtype {tensor.dtype}; expected float32, bfloat16, float16 or float64"
    return None


def missing_factors(module: str, found: Collection[str]) -> str | None:
    """Which of A and B a module's tensors in a file lack, if any."""
    missing = [name for name in ("lora_A", "lora_B") if name not in found]
    if not missing:
        return None
    verb = "is" if len(missing) == 1 else "are"
    return f"{module}: {' and '.join(missing)} {verb} missing (found {', '.join(found)})"


def unknown_text(unknown: Mapping[str, Any]) -> str:
    """A bundle's `unknown_settings`, of which there are some, in a line of a report."""
    return f"unknown settings of the adapter: {settings(unknown)}"
