"""Bottleneck adapters as AdapterHub's library `adapters` saves them (`save_adapter`).

A directory with adapter_config.json and pytorch_adapter.bin or adapter.safetensors. Houlsby's and
Pfeiffer's adapters are read (`DoubleSeqBnConfig`, `SeqBnConfig`), of the architectures in
`_OWNERS`; any other setting that changes what they compute is refused by name.

Source: https://docs.adapterhub.ml/classes/adapter_config.html, and what adapters 1.3.0 saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.codec import Decoder
from lorakit.checkpoint.formats.tensor_files import load_pickle, load_safetensors, plain_tensors
from lorakit.errors import FormatError
from lorakit.foreign_files import read_json
from lorakit.functional.bottleneck import ACTIVATIONS

CONFIG_NAME = "adapter_config.json"
TENSOR_NAMES = ("adapter.safetensors", "pytorch_adapter.bin")
_HEAD_NAMES = ("model_head.safetensors", "pytorch_model_head.bin")

_METHODS = {
    "houlsby": {"mh_adapter": True, "output_adapter": True, "original_ln_before": False},
    "pfeiffer": {"mh_adapter": False, "output_adapter": True, "original_ln_before": True},
}
_REQUIRED = {
    "architecture": None,
    "residual_before_ln": True,
    "original_ln_after": True,
    "ln_before": False,
    "ln_after": False,
    "is_parallel": False,
    "scaling": 1.0,
    "use_gating": False,
    "inv_adapter": None,
    "cross_adapter": False,
    "dropout": 0.0,
    "phm_layer": False,
    "stochastic_depth": 0.0,
}
"""Settings whose other values mean another function; what a file leaves out has these."""
_WITHOUT_EFFECT = {
    "reduction_factor", "init_weights", "init_weights_seed", "adapter_residual_before_ln",
    "inv_adapter_reduction_factor", "factorized_phm_W", "factorized_phm_rule", "learn_phm",
    "hypercomplex_nonlinearity", "phm_bias", "phm_c_init", "phm_dim", "phm_init_range", "phm_rank",
    "shared_W_phm", "shared_phm_rule",
}  # fmt: skip
"""Settings that say nothing which the tensors and the required settings do not."""

_Owners = Mapping[str, Mapping[str, str]]
_BERT: _Owners = {
    "attention.output": {"houlsby": "attention.output.dropout"},
    "output": {"houlsby": "output.dropout", "pfeiffer": "output.LayerNorm"},
}
_DISTILBERT: _Owners = {
    "attention_adapters": {"houlsby": "attention"},
    "output_adapters": {"houlsby": "ffn", "pfeiffer": "output_layer_norm"},
}
_GPT2: _Owners = {
    "attention_adapters": {"houlsby": "attn"},
    "output_adapters": {"houlsby": "mlp", "pfeiffer": ""},
}
_LLAMA: _Owners = {
    "attention_adapters": {"houlsby": "self_attn"},
    "output_adapters": {"houlsby": "mlp", "pfeiffer": ""},
}
_BART: _Owners = {
    "attention_adapters": {"houlsby": "self_attn"},
    "output_adapters": {"houlsby": "fc2", "pfeiffer": "final_layer_norm"},
}
_T5: _Owners = {
    "layer.0": {"houlsby": "layer.0.dropout"},
    "layer.1": {"houlsby": "layer.1.dropout", "pfeiffer": ""},
    "layer.2": {"houlsby": "layer.2.dropout", "pfeiffer": ""},
}
_BERTS = ("bert", "roberta", "xlm-roberta", "electra", "deberta", "deberta-v2")
_OWNERS: dict[str, _Owners] = {
    **dict.fromkeys(_BERTS, _BERT),
    **dict.fromkeys(("llama", "mistral"), _LLAMA),
    **dict.fromkeys(("t5", "mt5"), _T5),
    "bart": _BART,
    "distilbert": _DISTILBERT,
    "gpt2": _GPT2,
}
"""By `model_type`: who owns an adapter in a layer there, and with each method here."""
_LEAVES = {
    "adapter_down.0.weight": "down",
    "adapter_down.0.bias": "down_bias",
    "adapter_up.weight": "up",
    "adapter_up.bias": "up_bias",
}


class AdapterHub(Decoder):
    """A directory of `save_adapter`, with one adapter and no head."""

    name = "adapterhub"
    files = (CONFIG_NAME, *TENSOR_NAMES)

    def sniff(self, path: Path) -> bool:
        return is_of_adapterhub(path)

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        said = read_json(path / CONFIG_NAME)
        file = next(path / name for name in TENSOR_NAMES if (path / name).is_file())
        binary = file.suffix == ".bin"
        tensors = plain_tensors(load_pickle(file)) if binary else load_safetensors(file)[0]
        problems = _config_problems(said, path)
        if not problems:
            trained, problems = _trained(tensors, said)
        if lora_alpha is not None:
            problems.append("lora_alpha is LoRA's; these adapters have none")
        if problems:
            raise FormatError(f"{path} cannot be loaded:", problems)
        config = {
            "bottleneck": next(t.shape[0] for n, t in trained.items() if n.endswith(".down")),
            "activation": said["config"]["non_linearity"].lower(),
        }
        return AdapterBundle(
            trained=trained,
            base_model=base if isinstance(base := said.get("model_name"), str) and base else None,
            method=_method(said["config"]) or "",
            method_config=config,
            format=self.name,
        )


def is_of_adapterhub(path: Path) -> bool:
    """Whether this directory has the files of the `adapters` library."""
    return (path / CONFIG_NAME).is_file() and any((path / n).is_file() for n in TENSOR_NAMES)


def _method(config: Mapping[str, Any]) -> str | None:
    """The method whose settings these are, if it is a known one."""
    for name, settings in _METHODS.items():
        if all(config.get(key) == value for key, value in settings.items()):
            return name
    return None


def _config_problems(said: Any, path: Path) -> list[str]:
    """Why adapters of this config are not read."""
    config = said.get("config") if isinstance(said, Mapping) else None
    if not isinstance(config, Mapping):
        return [f"{CONFIG_NAME} has no settings of an adapter under config"]
    problems = [
        f"{key} is {config[key]!r}; only {value!r} is supported"
        for key, value in _REQUIRED.items()
        if key in config and config[key] != value
    ]
    known = _REQUIRED.keys() | _WITHOUT_EFFECT | {"non_linearity", "leave_out"}
    known = known.union(*_METHODS.values())
    problems += [f"{key} is an unknown setting" for key in config if key not in known]
    if config.get("leave_out"):
        problems.append(f"leave_out is {config['leave_out']!r}; only all layers are supported")
    if not problems and _method(config) is None:
        problems.append(
            "mh_adapter, output_adapter and original_ln_before are neither Houlsby's (true, true, "
            "false) nor Pfeiffer's (false, true, true)"
        )
    if str(config.get("non_linearity")).lower() not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        problems.append(f"non_linearity is {config.get('non_linearity')!r}, not one of {names}")
    elif config["non_linearity"] == "gelu" and "version" not in said:
        problems.append(
            "its non_linearity gelu is of a release before 2.0, where that was gelu_new"
        )
    if str(said.get("model_type")) not in _OWNERS:
        names = ", ".join(_OWNERS)
        problems.append(f"model_type is {said.get('model_type')!r}, not one of {names}")
    problems += [
        f"it has a prediction head, {name}, whose modules a model of transformers does not have; "
        "move the file away to load the adapter alone"
        for name in _HEAD_NAMES
        if (path / name).is_file()
    ]
    return problems


def _trained(
    tensors: Mapping[str, Tensor], said: Mapping[str, Any]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by their names in a prepared model, and what is wrong with them."""
    marker = f".adapters.{said.get('name')}."
    owners, method = _OWNERS[said["model_type"]], _method(said["config"]) or ""
    found: dict[str, Tensor] = {}
    problems = []
    for key, tensor in tensors.items():
        owner, _, leaf = key.partition(marker)
        ours = _owner_here(owner, owners, method)
        if leaf not in _LEAVES or ours is None:
            problems.append(f"{key} is unexpected: {method} has no such tensor")
        elif tensor.ndim != (1 if leaf.endswith("bias") else 2):
            problems.append(f"{key} has the shape {tuple(tensor.shape)}")
        else:
            found[f"{ours}.adapter.{_LEAVES[leaf]}"] = tensor
    sizes = {tensor.shape[0] for name, tensor in found.items() if name.endswith(".down")}
    if len(sizes) > 1:
        every = ", ".join(map(str, sorted(sizes)))
        problems.append(f"its adapters have bottlenecks of different sizes, {every}")
    if not sizes and not problems:
        problems.append("it has no adapters")
    return found, problems


def _owner_here(owner: str, owners: _Owners, method: str) -> str | None:
    """The module that owns this adapter in a model of lorakit; None if there is none."""
    for ending, by_method in owners.items():
        if owner.endswith(f".{ending}") or owner == ending:
            if method not in by_method:
                return None
            layer = owner.removesuffix(ending).removesuffix(".")
            return ".".join(filter(None, (layer, by_method[method])))
    return None
