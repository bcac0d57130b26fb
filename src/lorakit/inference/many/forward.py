"""Rows of several adapters through the model together, and what is each adapter's own of it.

Rows of similar length form a batch, whoever's they are:

    rows     a: 7 tokens   b: 7   c: 6   |   a: 3   a: 3   c: 2
    batches  model(rows 0 to 2), with the adapters a, b, c; model(rows 3 to 5), with a, a, c
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from lorakit.inference.many.parts import Part
from lorakit.inference.many.sessions import Sessions
from lorakit.inference.prediction import progress_bar
from lorakit.inference.scoring import BatchOutput
from lorakit.losses.plain import plain_loss
from lorakit.tasks.base import Example
from lorakit.tasks.batching import TOKENS, batches, length
from lorakit.tasks.pooling import READ_AT_EOS

Place = tuple[int, int]
"""An example: the index of its part, and its own in that."""


@dataclass(frozen=True)
class Read:
    """The rows of one adapter, as the model reads them."""

    part: Part
    examples: Sequence[Example]


def outputs(
    sessions: Sessions, reads: Sequence[Read], progress: bool = False
) -> Iterator[tuple[int, BatchOutput]]:
    """(index of a part, the model's output for some of its examples), until all are done.

    There are labels and a loss where the examples have labels.
    """
    places = [(p, i) for p, read in enumerate(reads) for i in range(len(read.examples))]
    budget = min((read.part.member.session.token_budget for read in reads), default=TOKENS)
    with progress_bar(len(places), progress) as shown:
        for alike in _by_form(sessions, reads, places):
            costs = [length(reads[p].examples[i]) for p, i in alike]
            for batch in batches(costs, budget):
                yield from _batch(sessions, reads, [alike[n] for n in batch])
                shown.update(len(batch))


def _by_form(
    sessions: Sessions, reads: Sequence[Read], places: Sequence[Place]
) -> list[list[Place]]:
    """Examples that can be one batch: of as many choices, and ends where a head reads at one."""
    at_eos = sessions.model.config.model_type in READ_AT_EOS
    found: dict[tuple[int, int], list[Place]] = {}
    for p, i in places:
        ids = reads[p].examples[i]["input_ids"]
        choices = len(ids) if ids and isinstance(ids[0], list) else 0
        texts = len(reads[p].part.task.text) if at_eos else 0
        found.setdefault((choices, texts), []).append((p, i))
    return [*found.values()]


def _batch(
    sessions: Sessions, reads: Sequence[Read], places: Sequence[Place]
) -> Iterator[tuple[int, BatchOutput]]:
    """What each part has of one batch."""
    examples = [reads[p].examples[i] for p, i in places]
    batch = _collated(reads[places[0][0]].part, examples)
    with sessions.rows([reads[p].part.member.name for p, _ in places]):
        inputs = {name: tensor.to(sessions.model.device) for name, tensor in batch.items()}
        logits = sessions.model(**inputs).logits
    rows: dict[int, list[int]] = {}
    for row, (p, _) in enumerate(places):
        rows.setdefault(p, []).append(row)
    for p, own in rows.items():
        labels = batch["labels"][own] if "labels" in batch else None
        yield p, _output(reads[p], [places[row][1] for row in own], logits[own], labels)


def _collated(part: Part, examples: Sequence[Example]) -> dict[str, Tensor]:
    """The inputs of all, as any of their tasks collates them.

    Labels are among them where all have the same kind, which a decoder may read.
    """
    if not part.task.generates:
        examples = [{k: v for k, v in e.items() if k != "labels"} for e in examples]
    return part.task.collate(part.member.session.tokenizer, examples)


def _output(read: Read, indices: list[int], logits: Tensor, labels: Tensor | None) -> BatchOutput:
    """What is one adapter's own of a batch, without the logits that its head has not."""
    part, task = read.part, read.part.task
    logits = logits[..., : part.member.height]
    if labels is None:
        own = [read.examples[i] for i in indices]
        labels = task.collate(part.member.session.tokenizer, own).get("labels")
    if labels is None:
        return BatchOutput(indices, logits, None, math.nan, 0.0)
    weight = float(task.weight({"labels": labels}))
    loss = float(plain_loss(task, logits, labels)) if weight else math.nan
    return BatchOutput(indices, logits, labels, loss, weight)
