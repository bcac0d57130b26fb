"""Whether two checkpoints are of one architecture: by names and shapes, before a value is read.

The models of both configs are compared, in the class of the tuned one, and then what the files have
of them. A head that only the tuned model's class has is no difference, nor is another vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from lorakit.algebra.differences import Keys
from lorakit.errors import MismatchError
from lorakit.layer_groups import group_layers
from lorakit.models.checkpoint_names import CheckpointNames
from lorakit.models.weightless import vocabulary_tensors
from lorakit.private.transformers_names import may_be_missing

Names = tuple[CheckpointNames, CheckpointNames]
"""Of the base's tensors and of the tuned ones, in the tuned model."""


def require_one_architecture(
    tuned: nn.Module, base: nn.Module, keys: Mapping[str, Keys], names: Names
) -> None:
    """Raise MismatchError that lists every tensor by which they differ, and how."""
    problems = [*_in_models(tuned, base), *_in_files(tuned, keys, names)]
    if problems:
        raise MismatchError(
            "The base and the tuned checkpoint are of different architectures, so the difference "
            "is no adapter of the base:",
            group_layers(problems),
        )


def _in_models(tuned: nn.Module, base: nn.Module) -> Iterator[tuple[str, str]]:
    here, there = (model.state_dict() for model in (tuned, base))
    sized = set(vocabulary_tensors(tuned))
    for name, tensor in here.items():
        if name not in there:
            yield name, "is in the tuned model alone"
        elif tensor.shape != there[name].shape and name not in sized:
            shapes = tuple(tensor.shape), tuple(there[name].shape)
            yield name, f"has shape {shapes[0]}, and {shapes[1]} in the base"
    yield from ((name, "is in the base alone") for name in there if name not in here)


def _in_files(
    model: nn.Module, keys: Mapping[str, Keys], names: Names
) -> Iterator[tuple[str, str]]:
    """What the tuned checkpoint lacks, and what the two store in another number of tensors."""
    base, tuned = (found.converted for found in names)
    for name in dict.fromkeys([*base, *tuned]):
        if tuned.get(name) != base.get(name):
            here, there = (len(parts.get(name, ())) or 1 for parts in (tuned, base))
            yield name, f"is stored in {here} tensors, and in {there} others in the base"
    for name, key in keys.items():
        lacking = key.tuned is None and name not in tuned and name not in base
        if lacking and not may_be_missing(model, name):
            yield name, "is in the base checkpoint alone"
