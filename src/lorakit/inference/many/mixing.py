"""Whether adapters can stand on one base, by what their files say: everything that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorakit.digests import SHA256, values_digest
from lorakit.errors import ConfigError
from lorakit.foreign_files import local_path
from lorakit.inference.description import Description
from lorakit.tasks.base import Task

Described = Mapping[str, Description]
"""By the names of the adapters."""

_PER_ADAPTER = ("num_labels", "id2label", "label2id", "problem_type")
"""Settings of a head that each adapter may have for itself: the loss is the task's, and a head of
fewer labels is one of more."""


def require_one_base(described: Described, tokenizers: Mapping[str, Any]) -> None:
    """Raise ConfigError that lists all by which these adapters cannot share a model."""
    differing: dict[str, Callable[[str], str]] = {
        "base models": lambda name: _base(described[name]),
        "models": lambda name: _model(described[name].task),
        "precisions (RUN/adapter in place of RUN computes in fp32)": lambda name: (
            described[name].dtype
        ),
        "vocabularies": lambda name: _vocabulary(tokenizers[name]),
    }
    problems = [
        f"{name}, {found.source}, was trained with the method {found.bundle.method}; a shared base "
        "takes LoRA's adapters"
        for name, found in described.items()
        if found.bundle.method != "lora"
    ]
    for what, of in differing.items():
        problems += _differences(what, {name: of(name) for name in described})
    _require_none(problems)


def require_one_padding(tokenizers: Mapping[str | None, Any]) -> None:
    """Raise ConfigError for tokenizers that fill a batch up with different tokens."""
    tokens = {str(name): repr(tokenizer.pad_token) for name, tokenizer in tokenizers.items()}
    _require_none([*_differences("padding tokens", tokens)])


def _require_none(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(
            "These adapters cannot share one base; use each by itself, or leave some out:", problems
        )


def head_settings(task: Task) -> dict[str, Any]:
    """The settings of the model's config that all adapters have to agree in."""
    return {name: value for name, value in task.head().items() if name not in _PER_ADAPTER}


def head_height(task: Task) -> int | None:
    """The number of logits of the task's head; None where the task does not set it."""
    height: int | None = task.head().get("num_labels")
    return height


def _differences(what: str, values: Mapping[str, str]) -> Iterator[str]:
    """A sentence with who has which, where not all have the same."""
    who: dict[str, list[str]] = {}
    for name, value in values.items():
        who.setdefault(value, []).append(name)
    if len(who) > 1:
        parts = (f"{value} ({', '.join(names)})" for value, names in who.items())
        yield f"they have different {what}: {', '.join(parts)}"


def _base(described: Description) -> str:
    path = local_path(described.base)
    place = str(Path(path).resolve()) if path.exists() else described.base
    return place if described.revision is None else f"{place} at {described.revision}"


def _model(task: Task) -> str:
    settings = "".join(f", {name}={value!r}" for name, value in head_settings(task).items())
    return f"{task.auto_class.removeprefix('AutoModelFor')}{settings}"


def _vocabulary(tokenizer: Any) -> str:
    """What a tokenizer's ids and batches are, in few words."""
    vocabulary = tokenizer.get_vocab()
    digest = values_digest([vocabulary]).removeprefix(SHA256)[:8]
    ends = f"bos {tokenizer.bos_token!r}, eos {tokenizer.eos_token!r}"
    inputs = ", ".join(tokenizer.model_input_names)
    side = tokenizer.padding_side
    return f"{len(vocabulary):,} tokens [{digest}] with {ends}, {inputs}, padded on the {side}"
