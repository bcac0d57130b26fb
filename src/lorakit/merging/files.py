"""`lorakit.merge_files`: adapters and the checkpoint of their base become a new checkpoint.

From file to file: the base is read a block of rows at a time, and no tensor of it is ever in memory
as a whole, unless its rows depend on each other. The model is made on the meta device, where it has
names and shapes and no weights; so all that loading checks is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorakit.base_checkpoints import (
    Bar,
    BaseCheckpoint,
    Cut,
    cut_again,
    cut_alike,
    open_checkpoint,
    untold,
    write_checkpoint,
)
from lorakit.errors import ConfigError, MismatchError
from lorakit.locks import new_directory
from lorakit.merging.adapters import Opened, Weighted, open_adapters
from lorakit.merging.changes import total_share
from lorakit.merging.companions import Companions, settle
from lorakit.merging.places import (
    base_directory,
    base_of,
    require_only_a_model,
    require_place,
)
from lorakit.merging.plan import Plan, blocks_of, plan_tensors, usual_dtype
from lorakit.merging.preparation import Prepared, prepare
from lorakit.merging.report import MergedFiles
from lorakit.runs.beside import load_own_tokenizer


def merge_files(
    adapters: str | Path | Weighted,
    base: str | Path | None,
    output: str | Path,
    *,
    lora_alpha: float | None = None,
    check_base: bool = True,
    revision: str | None = None,
    subfolder: str | None = None,
    max_shard_size: int | None = None,
    overwrite: bool = False,
    bar: Bar = untold,
) -> MergedFiles:
    """Write the model that `adapters` make of `base` into the directory `output`.

        W' = round(W + sum of w_i dW_i)

    in float32, rounded once to the dtype that W has in the base. The output is a plain transformers
    model in safetensors, cut into files as the base is, or so that none exceeds `max_shard_size`
    bytes. Memory is that of the adapters and of some blocks of rows.

    `adapters` is an adapter or a run, or (adapter, weight) pairs; a negative weight takes an update
    back. `base` is a directory or a hub id, by default the one that they name. Heads, biases and
    rows of tokens are put in place, and the tokenizer, labels, stop tokens and configs of the first
    adapter. A weight that was tied to one that now differs becomes one of its own, and the config
    says so. `lora_alpha`, `check_base`, `revision` and `subfolder` are those of
    `lorakit.load_adapter`, for each adapter.

    `output` must not exist or be empty; with `overwrite` it may hold a model and nothing else,
    which stays until the new one is whole. It appears complete or not at all. `bar` shows the bytes
    that are written.

    Raises what reading and loading raise, ConfigError if no base is named, TargetError for what no
    weight can hold, FormatError for NaN in the base, SaveError for an output that cannot be
    written.
    """
    output = Path(output)
    _require_size(max_shard_size)
    weighted = [(adapters, 1.0)] if isinstance(adapters, str | Path) else adapters
    opened = open_adapters(weighted, lora_alpha, revision, subfolder)
    name, base_revision = base_of(opened, None if base is None else str(base))
    directory = base_directory(name, base_revision)
    require_place(output, directory, opened, overwrite)
    checkpoint = open_checkpoint(directory)
    beside = opened[0].beside
    own = load_own_tokenizer(beside)
    prepared = _prepare(opened, name, base_revision, checkpoint, own, check_base)
    plan = plan_tensors(checkpoint, prepared, [one.weight for one in opened])
    companions = settle(prepared[0].model, name, base_revision, directory, beside, own)
    cut = _cut(checkpoint, plan, max_shard_size)
    with new_directory(output, overwrite) as new:
        companions.write(new, usual_dtype(checkpoint), bool(plan.untied))
        require_only_a_model(output, new)
        size = _write(new, cut, plan, bar)
    return _report(output, name, opened, prepared, plan, companions, list(cut), size)


def _report(
    output: Path,
    base: str,
    opened: Sequence[Opened],
    prepared: Sequence[Prepared],
    plan: Plan,
    companions: Companions,
    shards: Sequence[str],
    size: int,
) -> MergedFiles:
    rounding, task = plan.rounding, companions.task
    own = opened[0].source if companions.is_own else base
    verified = {one.base_verified for one in prepared}
    return MergedFiles(
        output=str(output),
        base=base,
        adapters=[(one.source, one.weight) for one in opened],
        model_class=type(companions.model).__name__,
        folded_layers=len(rounding),
        worst_rounding=max((layer.share for layer in rounding.values()), default=0.0),
        total_rounding=total_share(rounding.values()),
        rounding={name: layer.share for name, layer in rounding.items()},
        base_verified=next((found for found in (False, None) if found in verified), True),
        bytes=size,
        shards=shards,
        tokenizer=None if companions.tokenizer is None else own,
        untied=plan.untied,
        left_out=plan.left_out,
        renamed={key: new for new, key in plan.origins.items() if key != new},
        renamed_modules={k: v for one in prepared for k, v in one.renamed.items()},
        unknown_settings={k: v for one in opened for k, v in one.bundle.unknown_settings.items()},
        added_mean=0.0 if task is None else task.units.mean,
    )


def _prepare(
    opened: Sequence[Opened],
    base: str,
    revision: str | None,
    checkpoint: BaseCheckpoint,
    tokenizer: Any,
    check_base: bool,
) -> list[Prepared]:
    """Each adapter on a model without weights; they have to be those of one class."""
    prepared = [prepare(base, revision, checkpoint, one, tokenizer, check_base) for one in opened]
    first, *others = prepared
    for one, other in zip(opened[1:], others, strict=True):
        if type(other.model) is not type(first.model) or other.shapes != first.shapes:
            raise MismatchError(
                f"{opened[0].source} is an adapter of a {type(first.model).__name__} and "
                f"{one.source} of a {type(other.model).__name__}, or their heads or vocabularies "
                "have other sizes; merge them one after the other."
            )
    return prepared


def _cut(checkpoint: BaseCheckpoint, plan: Plan, max_shard_size: int | None) -> Cut:
    tensors = {name: written.stored for name, written in plan.tensors.items()}
    if max_shard_size is None:
        return cut_alike(checkpoint, tensors, plan.origins)
    return cut_again(tensors, max_shard_size)


def _write(directory: Path, cut: Cut, plan: Plan, bar: Bar) -> int:
    total = sum(written.stored.bytes for written in plan.tensors.values())
    with bar(total) as progress:
        return write_checkpoint(
            directory, cut, lambda name: blocks_of(plan.tensors[name], name), progress
        )


def _require_size(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"The largest file must have at least one byte; got {limit}.")
