"""The tensors of the merged checkpoint: what each is made of, before any is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorakit.base_checkpoints import BaseCheckpoint, StoredTensor
from lorakit.errors import MismatchError
from lorakit.layer_groups import group_layers
from lorakit.merging.changes import Adapted, Merger, Placed, Rounding, Terms
from lorakit.merging.finite import COMPUTED, require_finite_base, require_finite_sum
from lorakit.merging.preparation import Prepared
from lorakit.merging.sources import InCheckpoint, InMemory, RowSource
from lorakit.merging.stacked import stacked_changes
from lorakit.private.transformers_names import may_be_missing
from lorakit.surgery.ties import storage_key


@dataclass(frozen=True)
class Written:
    """One tensor of the merged checkpoint."""

    stored: StoredTensor
    source: RowSource
    """W, or what stands in its place."""
    merger: Merger | None = None
    """What is done to W; None: nothing."""
    layer: str | None = None
    """The adapted module, for the report."""


@dataclass
class Plan:
    """All of them, by their names in the file."""

    tensors: dict[str, Written] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    """The key in the base of each that has one."""
    untied: list[str] = field(default_factory=list)
    """The names of what the base has as one tensor, and the merged model as several."""
    left_out: list[str] = field(default_factory=list)
    """Keys of the base that the merged model has no tensor for: the head of another task."""

    @property
    def rounding(self) -> dict[str, Rounding]:
        """What each adapted layer lost of its update; known when all is written."""
        return {
            written.layer: written.merger.rounding
            for written in self.tensors.values()
            if written.layer is not None and written.merger is not None
        }


def plan_tensors(
    checkpoint: BaseCheckpoint, prepared: Sequence[Prepared], weights: Sequence[float]
) -> Plan:
    """Plan the merge of adapters that were prepared for the same model.

    Raises MismatchError that lists what the base and the adapters lack.
    """
    return _Planner(checkpoint, prepared, weights).plan()


class _Planner:
    def __init__(
        self, checkpoint: BaseCheckpoint, prepared: Sequence[Prepared], weights: Sequence[float]
    ) -> None:
        self.checkpoint, first = checkpoint, prepared[0]
        self.names, self.shapes, self.tables = first.names, first.shapes, first.tables
        self.model = first.model
        self.keys = self.names.key_of
        self.groups = {name: group for group in first.ties for name in group}
        self.terms: dict[str, Terms] = {}
        for one, weight in zip(prepared, weights, strict=True):
            for name, change in one.changes.items():
                self.terms[name] = [*self.terms.get(name, ()), (change, weight)]
        converted = self.names.converted
        self.stacked = stacked_changes(self.model, checkpoint, converted, self.shapes, self.terms)
        self.taken_apart = {parameter for parameter, _ in self.stacked.values()}
        self.problems: list[tuple[str, str]] = []

    def plan(self) -> Plan:
        plan = Plan()
        self._drop_copies()
        plan.untied = [
            n for group in dict.fromkeys(self.groups.values()) for n in self._apart(group)
        ]
        self._plan_known(plan)
        self._plan_new(plan)
        if self.problems:
            raise MismatchError(
                f"The checkpoint in {self.checkpoint.directory} and what is to be merged do not "
                f"make a {type(self.model).__name__}:",
                group_layers(self.problems),
            )
        return plan

    def _plan_known(self, plan: Plan) -> None:
        """What the base has, in its order."""
        own = type(self.model).__name__ in (self.model.config.architectures or [None])
        for key, stored in self.checkpoint.tensors.items():
            if (name := self.names.of_key.get(key)) is not None:
                written = self._written(name, stored.dtype)
            elif key in self.stacked:
                parameter, merger = self.stacked[key]
                source = InCheckpoint(self.checkpoint, key)
                if not self._is_computed(parameter, stored.dtype):
                    continue
                written = Written(stored, source, merger, _layer(merger.terms))
            elif key in self.names.unknown and not (own or self._is_nameless()):
                plan.left_out.append(key)
                continue
            else:
                written = Written(stored, InCheckpoint(self.checkpoint, key))
            if written is not None:
                called = self.names.spelled.get(key, key)
                plan.tensors[called], plan.origins[called] = written, key

    def _plan_new(self, plan: Plan) -> None:
        """What the base has not: heads, and weights that were tied."""
        dtype = usual_dtype(self.checkpoint)
        for name in self.shapes:
            if name in self.keys:
                continue
            stands_in = next((self.keys[n] for n in self._group(name) if n in self.keys), None)
            if name in self.names.converted:
                self._refuse_converted(name)
            elif stands_in is not None and not plan.untied:
                continue
            elif name in self.terms or name in self.tables or stands_in is not None:
                here = dtype if stands_in is None else self.checkpoint.tensors[stands_in].dtype
                if (written := self._written(name, here)) is not None:
                    plan.tensors[name] = written
            elif not may_be_missing(self.model, name):
                text = "is newly initialized: it is missing from the base checkpoint and from the"
                self.problems.append((name, f"{text} adapter"))

    def _written(self, name: str, dtype: torch.dtype) -> Written | None:
        """What becomes of one tensor of the model; None with a problem noted."""
        stored, terms = StoredTensor(dtype, self.shapes[name]), self.terms.get(name, ())
        source = self._source(name)
        if terms and not self._is_computed(name, dtype):
            return None
        if source is not None:
            merger = Merger(terms) if terms else None
            return Written(stored, source, merger, _layer(terms))
        if [type(change) for change, _ in terms] == [Placed] and terms[0][1] == 1:
            return Written(stored, InMemory(terms[0][0].tensors[0].to(dtype)))
        self.problems.append((name, self._without_source(name, terms)))
        return None

    def _is_computed(self, name: str, dtype: torch.dtype) -> bool:
        """Whether sums are computed in this type; notes the problem if not."""
        if dtype in COMPUTED:
            return True
        kind, *named = (str(known).removeprefix("torch.") for known in (dtype, *COMPUTED))
        text = f"is {kind}, and what is merged has to be {', '.join(named)}"
        self.problems.append((name, text))
        return False

    def _source(self, name: str) -> RowSource | None:
        """Where the base's values are; None if they are nowhere in this shape."""
        if name in self.tables:
            return InMemory(self.tables[name])
        key = next((self.keys[n] for n in (name, *self._group(name)) if n in self.keys), None)
        if key is None or self.checkpoint.tensors[key].shape != self.shapes[name]:
            return None
        return InCheckpoint(self.checkpoint, key)

    def _without_source(self, name: str, terms: Terms) -> str:
        if len(terms) > 1 or (terms and terms[0][1] != 1):
            return (
                "is not in the base checkpoint in this shape, so that a weighted sum of it has no "
                "meaning; one adapter alone may bring it, with the weight 1"
            )
        key = self.keys.get(name)
        if key is None:
            return "is adapted, but missing from the base checkpoint"
        got = self.checkpoint.tensors[key].shape
        return (
            f"has a size mismatch: expected {self.shapes[name]}, got {got} in the base checkpoint, "
            "and it is missing from the adapter"
        )

    def _refuse_converted(self, name: str) -> None:
        if name in self.terms and name not in self.taken_apart:
            count = len(self.names.converted[name])
            self.problems.append(
                (
                    name,
                    f"is made of {count} tensors of the base checkpoint when it is loaded, which "
                    "a merge of files does not take apart; load the base, call "
                    "lorakit.load_adapter and lorakit.fold, and save it",
                )
            )

    def _group(self, name: str) -> tuple[str, ...]:
        return self.groups.get(name, ())

    def _apart(self, group: Sequence[str]) -> Sequence[str]:
        """The names, if what is merged differs between them."""
        made = {
            tuple((storage_key(t), w) for c, w in self.terms.get(name, ()) for t in c.tensors)
            for name in group
        }
        return group if len(made) > 1 else ()

    def _drop_copies(self) -> None:
        """Forget values for a tied tensor that are the base's own: PEFT stores its tables, too."""
        for name in self.groups:
            terms, source = self.terms.get(name, ()), self._source(name)
            if [type(c) for c, _ in terms] != [Placed] or not isinstance(source, InCheckpoint):
                continue
            if all(_equal(terms[0][0].tensors[0], block) for block in source.blocks()):
                del self.terms[name]

    def _is_nameless(self) -> bool:
        return not self.model.config.architectures


def _layer(terms: Terms) -> str | None:
    """The adapted module or parameter that these change."""
    return next((change.layer for change, _ in terms if isinstance(change, Adapted)), None)


def _equal(value: Tensor, block: tuple[int, int, Tensor]) -> bool:
    start, stop, rows = block
    return torch.equal(value[start:stop].to(rows.dtype), rows)


def usual_dtype(checkpoint: BaseCheckpoint) -> torch.dtype:
    """The floating type of most of the numbers."""
    sizes: Counter[torch.dtype] = Counter()
    for stored in checkpoint.tensors.values():
        if stored.dtype.is_floating_point:
            sizes[stored.dtype] += stored.size
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)


def blocks_of(written: Written, name: str) -> Iterator[Tensor]:
    """The rows of a tensor, merged, block after block.

    Raises FormatError for NaN in the base, MismatchError where the sum leaves the type's range.
    """
    source, merger = written.source, written.merger
    whole = merger is not None and not merger.is_blockwise
    for start, stop, rows in source.whole() if whole else source.blocks():
        require_finite_base(rows, name, strictly=merger is not None)
        if merger is None:
            yield rows
            continue
        merged = merger.merged(rows, start, stop)
        require_finite_sum(merged, name)
        yield merged
