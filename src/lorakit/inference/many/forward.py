"""Rows of several adapters through the model together, and what is each adapter's own of it.

Rows of similar length form a batch, whoever's they are:

    rows     a: 7 tokens   b: 7   c: 6   |   a: 3   a: 3   c: 2
    batches  model(rows 0 to 2), with the adapters a, b, c; model(rows 3 to 5), with a, a, c
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from lorakit.inference.many.parts import Part
from lorakit.inference.many.sessions import Sessions
from lorakit.inference.prediction import progress_bar
from lorakit.inference.scoring import BatchOutput
from lorakit.losses import plain_loss
from lorakit.tasks.base import Example
from lorakit.tasks.batching import batches, length
from lorakit.tasks.pooling import READ_AT_EOS

Place = tuple[int, int]
"""An example: the index of its part, and its own in that."""


def outputs(
    sessions: Sessions,
    parts: Sequence[Part],
    examples: Sequence[Sequence[Example]],
    progress: bool = False,
) -> Iterator[tuple[int, BatchOutput]]:
    """(index of a part, the model's output for some of its examples), until all are done.

    There are labels and a loss where the examples have labels.
    """
    places = [(p, i) for p, own in enumerate(examples) for i in range(len(own))]
    budget = min(part.member.session.token_budget for part in parts)
    with progress_bar(len(places), progress) as shown:
        for alike in _by_form(sessions, parts, places, examples):
            costs = [length(examples[p][i]) for p, i in alike]
            for batch in batches(costs, budget):
                yield from _batch(sessions, parts, examples, [alike[n] for n in batch])
                shown.update(len(batch))


def _by_form(
    sessions: Sessions,
    parts: Sequence[Part],
    places: Sequence[Place],
    examples: Sequence[Sequence[Example]],
) -> list[list[Place]]:
    """Examples that can be one batch: of as many choices, and ends where a head reads at one."""
    at_eos = sessions.model.config.model_type in READ_AT_EOS
    found: dict[tuple[int, int], list[Place]] = {}
    for p, i in places:
        ids = examples[p][i]["input_ids"]
        choices = len(ids) if ids and isinstance(ids[0], list) else 0
        texts = len(parts[p].task.text) if at_eos else 0
        found.setdefault((choices, texts), []).append((p, i))
    return [*found.values()]


def _batch(
    sessions: Sessions,
    parts: Sequence[Part],
    examples: Sequence[Sequence[Example]],
    places: Sequence[Place],
) -> Iterator[tuple[int, BatchOutput]]:
    members: dict[int, list[int]] = {}
    for row, (p, _) in enumerate(places):
        members.setdefault(p, []).append(row)
    batch = _inputs(parts[places[0][0]], [examples[p][i] for p, i in places])
    with sessions.rows([parts[p].member.name for p, _ in places]):
        inputs = {name: tensor.to(sessions.model.device) for name, tensor in batch.items()}
        logits = sessions.model(**inputs).logits
    for p, rows in members.items():
        part, own = parts[p], [places[row][1] for row in rows]
        yield (
            p,
            _own(
                part, logits[rows], _labels(part, [examples[p][i] for i in own], batch, rows), own
            ),
        )


def _inputs(part: Part, examples: Sequence[Example]) -> dict[str, Tensor]:
    """The batch as a task of its kind collates it; labels that a decoder reads are among it."""
    task, tokenizer = part.task, part.member.session.tokenizer
    reads_labels = task.generates
    return task.collate(tokenizer, [e if reads_labels else unlabelled(e) for e in examples])


def unlabelled(example: Example) -> Example:
    """The example without its labels."""
    return {name: value for name, value in example.items() if name != "labels"}


def _labels(
    part: Part, examples: Sequence[Example], batch: Mapping[str, Tensor], rows: Sequence[int]
) -> Tensor | None:
    """The labels of these examples of a part, which are the `rows` of the batch."""
    if "labels" in batch:
        return batch["labels"][rows]
    collated = part.task.collate(part.member.session.tokenizer, examples)
    return collated.get("labels")


def _own(part: Part, logits: Tensor, labels: Tensor | None, own: list[int]) -> BatchOutput:
    """What is one adapter's own of a batch, without the logits that its head has not."""
    logits = logits[..., : part.member.height]
    if labels is None:
        return BatchOutput(own, logits, None, math.nan, 0.0)
    weight = float(part.task.weight({"labels": labels}))
    loss = float(plain_loss(part.task, logits, labels)) if weight else math.nan
    return BatchOutput(own, logits, labels, loss, weight)
