"""PEFT's prompt tuning: a directory whose adapter_config.json says PROMPT_TUNING.

Its `prompt_embeddings` (V, d) are the prefix of `prefix_embedding`, without an infix, for a decoder
that completes prompts, or for the encoder of an encoder-decoder. For the latter PEFT's default
(`num_transformer_submodules`) has V rows more, which its forward does not read; they are left out.
Prompts of classifiers are refused: PEFT's models pool the prompt's own output, or count it in. So
are other kinds of prompts, which are no embeddings of tokens.

Source: https://huggingface.co/docs/peft/package_reference/prompt_tuning
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, type_problem
from lorakit.checkpoint.formats.codec import Decoder
from lorakit.checkpoint.formats.peft.layout import CONFIG_NAME, LEGACY_NAME, TENSORS_NAME
from lorakit.checkpoint.formats.tensor_files import load_pickle, load_safetensors, plain_tensors
from lorakit.checkpoint.header import Check, type_problems
from lorakit.config.values import is_whole
from lorakit.errors import FormatError
from lorakit.foreign_files import read_json

PROMPT = "prompt_embeddings"
"""The file's only tensor, whose place depends on the model."""
_PARTS = {"CAUSAL_LM": 1, "SEQ_2_SEQ_LM": 2}
"""The tasks whose prompts are read, and PEFT's default of `num_transformer_submodules`."""
_TYPES: dict[str, Check] = {"base_model_name_or_path": ("a string", lambda x: isinstance(x, str))}
_KINDS = {
    "PROMPT_TUNING": None,
    "PREFIX_TUNING": "it has keys and values of each layer, and prefix_layer trains the activations"
    " that keys and values are computed from",
    "P_TUNING": "its embeddings are computed by an encoder of PEFT's",
    "MULTITASK_PROMPT_TUNING": "its embeddings depend on a task's number",
}
"""Kinds of prompts in PEFT, and why they are not read."""


class PromptTuning(Decoder):
    """A directory of PEFT's with a prompt in place of adapters."""

    name = "prompt_tuning"
    files = (CONFIG_NAME, TENSORS_NAME, LEGACY_NAME)

    def sniff(self, path: Path) -> bool:
        return has_prompt(path)

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        said = read_json(_directory(path) / CONFIG_NAME)
        if reason := _KINDS[said["peft_type"]]:
            raise FormatError(
                f"{path} is of PEFT's {said['peft_type']}, which is not read: {reason}."
            )
        tensors = _tensors(path)
        problems = _problems(said, tensors)
        if lora_alpha is not None:
            problems.append("lora_alpha is LoRA's; a prompt has none")
        if problems:
            raise FormatError(f"{path} cannot be loaded:", problems)
        count = said["num_virtual_tokens"]
        return AdapterBundle(
            trained={PROMPT: tensors[PROMPT][:count]},
            base_model=said.get("base_model_name_or_path"),
            task_type=said.get("task_type"),
            method="prefix_embedding",
            method_config={"prefix": count, "infix": 0},
            format=self.name,
        )


def has_prompt(path: Path) -> bool:
    """Whether PEFT's config in this directory, or beside this file, is of a kind of prompt.

    A damaged one is of none, and is refused where the adapter is read.
    """
    config = _directory(path) / CONFIG_NAME
    if not config.is_file() or not (path.is_dir() or path.name in (TENSORS_NAME, LEGACY_NAME)):
        return False
    try:
        said = read_json(config)
    except FormatError:
        return False
    return isinstance(said, Mapping) and said.get("peft_type") in tuple(_KINDS)


def _directory(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _tensors(path: Path) -> dict[str, Tensor]:
    """Those of this file, or of the one in this directory."""
    files = [path / TENSORS_NAME, path / LEGACY_NAME] if path.is_dir() else [path]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise FormatError(f"{path} has neither {TENSORS_NAME} nor {LEGACY_NAME}.")
    if file.name == TENSORS_NAME:
        return load_safetensors(file)[0]
    return plain_tensors(load_pickle(file))


def _problems(said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    problems = type_problems(said, _TYPES)
    problems += [p for name, tensor in tensors.items() if (p := type_problem(name, tensor))]
    problems += [f"{name} is unexpected" for name in tensors if name != PROMPT]
    prompt = tensors.get(PROMPT)
    shape = None if prompt is None else tuple(prompt.shape)
    task, width = said.get("task_type"), said.get("token_dim")
    count: Any = said.get("num_virtual_tokens")
    parts: Any = said.get("num_transformer_submodules") or _PARTS.get(str(task), 1)
    whole = is_whole(count, 1) and is_whole(parts, 1)
    if not whole or shape != (count * parts, width):
        problems.append(
            f"{PROMPT} is {'missing' if shape is None else f'of shape {shape}'}; the config says "
            f"{count} virtual tokens of width {width}" + (f", {parts} times" if parts != 1 else "")
        )
    if task not in [*_PARTS]:  # it may be a list, which is in no dict
        problems.append(
            f"task_type is {task!r}; only {' and '.join(_PARTS)} are supported: of other models "
            "PEFT reads the output at the prompt"
        )
    return problems
