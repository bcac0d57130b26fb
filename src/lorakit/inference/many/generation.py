"""Generate with many adapters: prompts of different adapters are completed together.

A batch has rows of one way to search: of the same generation settings, and the same tokens that end
a completion. The adapters in it may be any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lorakit.errors import ConfigError
from lorakit.inference.batch_generation import generate_batch
from lorakit.inference.generation import (
    TOKENS,
    Generated,
    Prompts,
    cost,
    decoding_of,
    encode_prompts,
    of_prompts,
    search_settings,
)
from lorakit.inference.many.names import Names, require_names, rows_by_name
from lorakit.inference.many.own_tables import Tables
from lorakit.inference.many.parts import Part, own_parts, parts_of
from lorakit.inference.many.sessions import Member, Sessions, title_of
from lorakit.inference.partial_outputs import PartialOutputs
from lorakit.inference.prediction import columns_read, progress_bar
from lorakit.inference.session import Opened
from lorakit.inference.streaming import Say
from lorakit.models.processes import process_number
from lorakit.tasks.batching import batches
from lorakit.tasks.generation import CausalTask, require_generating

Decoding = Mapping[str, Any]
"""Fields of `DecodingConfig` that override those of every adapter's recipe."""


@dataclass(frozen=True, eq=False)
class _Work:
    """The prompts of one adapter, and where their completions go."""

    member: Member
    rows: Sequence[int]
    """Among those of all."""
    prompts: Prompts

    @cached_property
    def way(self) -> tuple[str, str]:
        """What the rows of a batch have in common."""
        return repr(self.prompts.decoding), repr(self.member.generation_config)


_Prompt = tuple[_Work, tuple[int, ...]]
"""A prompt, and whose it is."""


def generate_rows(
    sessions: Sessions,
    names: Names,
    table: Any,
    data: str,
    decoding: Decoding | None = None,
    progress: bool = False,
    output: Path | None = None,
) -> Generated:
    """The completion of each row by the adapter of its name, which that alone would write.

    `data` is what messages call the `table`, and `progress` shows a bar. Each adapter searches as
    its recipe says, or else its task; `decoding` overrides settings of all. With an `output`,
    completions are kept beside it until `partial_outputs.remove_partial`, so that the same call
    continues an interrupted one.

    Raises ConfigError that lists what any adapter cannot read, for a task that generates no text,
    and if max_new_tokens leaves no room for a prompt.
    """
    require_texts(sessions.opened)
    parts = parts_of(sessions, names, table, data, labelled=False)
    return _of_parts(sessions, [(part, part.rows) for part in parts], decoding, progress, output)


def generate_own(
    sessions: Sessions,
    tables: Tables,
    decoding: Decoding | None = None,
    progress: bool = False,
    output: Path | None = None,
) -> Generated:
    """`generate_rows` for each row of each adapter's own `tables`, one after the other."""
    require_texts(sessions.opened)
    parts, placed, start = own_parts(sessions, tables, labelled=False), [], 0
    for part in parts:
        placed.append((part, range(start, start + len(part.rows))))
        start += len(part.rows)
    return _of_parts(sessions, placed, decoding, progress, output)


def generate_texts(
    sessions: Sessions,
    names: Names,
    prompts: Sequence[str],
    decoding: Decoding | None = None,
    progress: bool = False,
) -> Generated:
    """`generate_rows` of prompts, each by the adapter of its name; for chat they are messages."""
    require_texts(sessions.opened)
    _require_members(sessions, names, len(prompts))
    work = []
    for name, rows in rows_by_name(names).items():
        member = sessions.members[name]
        task, cells = of_prompts(member.session, [prompts[row] for row in rows])
        work.append(_work(member, rows, task, cells, decoding or {}))
    return _generated(work, _completions(sessions, work, progress, None))


def stream_text(
    sessions: Sessions,
    name: str | None,
    prompt: str,
    say: Say,
    decoding: Decoding | None = None,
) -> Generated:
    """The completion of one prompt by the adapter of this name; `say` is told each part of it.

    Raises as `generate_rows` does. Threads may do so at once, each with its own adapter.
    """
    require_texts(sessions.opened)
    _require_members(sessions, [name], 1)
    member = sessions.members[name]
    task, cells = of_prompts(member.session, [prompt])
    work = _work(member, [0], task, cells, decoding or {})
    torch.manual_seed(work.prompts.decoding.seed)
    return work.prompts.generated(_batch(sessions, [(work, work.prompts.ids[0])], say))


def _of_parts(
    sessions: Sessions,
    placed: Iterable[tuple[Part, Sequence[int]]],
    decoding: Decoding | None,
    progress: bool,
    output: Path | None,
) -> Generated:
    """The completions of parts, each in its places among the rows of all."""
    work = []
    for part, places in placed:
        task = require_generating(part.task, part.member.session.source)
        cells = columns_read(task, part.table)
        work.append(_work(part.member, places, task, cells, decoding or {}))
    return _generated(
        work, _completions(sessions, work, progress, _partial(sessions, work, output))
    )


def require_texts(opened: Mapping[Any, Opened]) -> None:
    """Raise ConfigError that lists the adapters which generate no text."""
    problems = [
        f"{title_of(name)} was trained for {one.task.name}"
        for name, one in opened.items()
        if not one.task.generates
    ]
    if problems:
        raise ConfigError("These adapters generate no text; use lorakit predict:", problems)


def _require_members(sessions: Sessions, names: Names, rows: int) -> None:
    require_names(names, rows, sessions.members, "The call")
    if None in names and None not in sessions.members:
        raise ConfigError(
            "The adapters read different columns, so it is not known how the base alone reads a "
            "prompt; name an adapter for each row."
        )


def _work(
    member: Member,
    rows: Sequence[int],
    task: CausalTask,
    cells: dict[str, list[Any]],
    decoding: Decoding,
) -> _Work:
    settings = replace(decoding_of(member.session), **decoding)
    return _Work(member, rows, encode_prompts(member.session, task, cells, settings))


def _generated(work: Sequence[_Work], texts: Sequence[Sequence[str]]) -> Generated:
    """The completions of each one's distinct prompts, as those of the rows."""
    found = [""] * sum(len(one.rows) for one in work)
    for one, own in zip(work, texts, strict=True):
        for row, text in zip(one.rows, one.prompts.generated(own).texts, strict=True):
            found[row] = text
    return Generated(found, sum(one.prompts.truncated_rows for one in work))


def _completions(
    sessions: Sessions, work: Sequence[_Work], progress: bool, partial: PartialOutputs | None
) -> list[list[str]]:
    """The completions of each one's distinct prompts; those in `partial` are read."""
    prompts = [(one, ids) for one in work for ids in one.prompts.distinct]
    texts = partial.read() if partial is not None else {}
    if partial is not None:
        partial.start(texts)
    with progress_bar(len(prompts), progress) as shown:
        shown.update(len(texts))
        for batch in _batches(prompts, [n for n in range(len(prompts)) if n not in texts]):
            found = dict(zip(batch, _batch(sessions, [prompts[n] for n in batch]), strict=True))
            texts |= found
            if partial is not None:
                partial.add(found)
            shown.update(len(batch))
    by_work: dict[int, list[str]] = {id(one): [] for one in work}
    for n, (one, _) in enumerate(prompts):
        by_work[id(one)].append(texts[n])
    return [*by_work.values()]


def _batches(prompts: Sequence[_Prompt], missing: Sequence[int]) -> Iterator[list[int]]:
    """The indices of the missing ones, those that are searched for in one way together."""
    ways: dict[tuple[str, str], list[int]] = {}
    for n in missing:
        ways.setdefault(prompts[n][0].way, []).append(n)
    for alike in ways.values():
        decoding = prompts[alike[0]][0].prompts.decoding
        torch.manual_seed(decoding.seed)
        costs = [cost(prompts[n][1], decoding) for n in alike]
        for batch in batches(costs, TOKENS, decoding.batch_size):
            yield [alike[i] for i in batch]


def _batch(sessions: Sessions, prompts: Sequence[_Prompt], say: Say | None = None) -> list[str]:
    """The completions of prompts that are searched for in one way."""
    first = prompts[0][0]
    tokenizer, config = first.member.session.tokenizer, first.member.generation_config
    ids, decoding = [[*ids] for _, ids in prompts], first.prompts.decoding
    with sessions.rows([one.member.name for one, _ in prompts]):
        return generate_batch(sessions.model, tokenizer, ids, decoding, say, config)


def _partial(
    sessions: Sessions, work: Sequence[_Work], output: Path | None
) -> PartialOutputs | None:
    if output is None or any(one.prompts.decoding.temperature > 0 for one in work):
        return None
    each = [
        (
            one.member.digest,
            one.prompts.distinct,
            search_settings(one.prompts.decoding),
            repr(one.member.generation_config),
        )
        for one in work
    ]
    return PartialOutputs(output, {"base": sessions.base, "each": each}, process_number())
