"""What lives in memory while code runs: every storage from its birth to its death.

A dispatch mode sees each tensor that an operation returns, real or fake, and follows its storage by
a weak reference. What a storage is for is often known only later (a gradient becomes one when it is
accumulated), so births and deaths are kept as events, and bytes are added up at the end.

Autograd adds a tensor's second gradient to its first in place where nothing else has that one's
storage, but never while a dispatch mode looks; so there the first one dies before the sum is born.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from lorakit.errors import PlanError
from lorakit.planner.arithmetic import Work, tensors
from lorakit.planner.stand_ins import run
from lorakit.private.torch_names import NEEDS_VALUES, TorchDispatchMode, in_backward
from lorakit.text import duration_text

BASE, TRAINED, GRADIENTS, STATE, ACTIVATIONS, TEMPORARY = CATEGORIES = (
    "base weights",
    "trained weights",
    "gradients",
    "optimizer state",
    "activations",
    "temporary",
)
"""What memory is for, in the order in which it is shown."""


@dataclass(frozen=True)
class LinearWeight:
    """A frozen weight of a linear layer, which could be stored quantised."""

    parameters: int
    outputs: int
    nbytes: int
    """As it is stored without that."""


@dataclass(eq=False)
class Block:
    """One storage: its bytes, what it is for, and the module whose it is.

    That is the one that has the weight, the gradient's or the state's too, or in whose forward it
    was born.
    """

    nbytes: int
    category: str = TEMPORARY
    module: str = ""
    weight: LinearWeight | None = None
    """Of a weight that could be quantised, and of what an operation that reads it would then need
    for a moment: that block has no bytes."""
    has_views: bool = False
    addend: Block | None = None
    """Of a sum in the backward: what autograd would have added to in place."""


@dataclass(frozen=True)
class Event:
    """A block that is born, or dies, in a phase of the step."""

    block: Block
    born: bool
    phase: str

    @property
    def change(self) -> int:
        """What it adds to the live bytes."""
        return self.block.nbytes if self.born else -self.block.nbytes


@dataclass(frozen=True)
class Recording:
    """A recorded step."""

    events: Sequence[Event]
    work: Mapping[str, Work]
    """By phase."""


class Recorder(TorchDispatchMode):
    """Follows the storages of all tensors that operations return while it is entered.

    Of operations in a phase it also counts the work.

    Raises PlanError for an operation that needs values, and when `seconds` have passed.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds, self._end = seconds, perf_counter() + seconds
        self.events: list[Event] = []
        self.work: defaultdict[str, Work] = defaultdict(Work)
        self.phase, self.module = "", ""
        self._blocks: dict[int, tuple[Any, Block, Any]] = {}
        """By the id of a storage that is alive: a weak reference to it, its block, and a weak
        reference to the tensor that it was born with."""
        self._weights: dict[int, LinearWeight] = {}
        """By the id of their storage, what could be quantised."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            out = run(func, args, kwargs or {})
        except NEEDS_VALUES as error:
            raise self.needs_values(func) from error
        if perf_counter() > self._end:
            raise PlanError(f"Planning takes longer than {duration_text(self.seconds)}.")
        reads = self._reads(args, out)
        self.events += (Event(block, True, self.phase) for block in reads)
        if self.phase:
            self.work[self.phase].add(func, args, kwargs or {}, out)
        blocks = [self.block(tensor) for tensor in tensors(out)]
        if func is torch.ops.aten.add.Tensor and not self.module and in_backward():
            first = self.block(args[0])
            blocks[0].addend = None if first.has_views else first
        self.events += (Event(block, False, self.phase) for block in reads)
        return out

    def _reads(self, args: Any, out: Any) -> list[Block]:
        """A block for each of the `quantisable` that an operation reads; a view reads nothing."""
        if not self._weights:
            return []
        read = {id(tensor.untyped_storage()) for tensor in tensors(args)}
        read &= self._weights.keys()
        viewed = {id(tensor.untyped_storage()) for tensor in tensors(out)} if read else set()
        return [Block(0, module=self.module, weight=self._weights[key]) for key in read - viewed]

    def needs_values(self, operation: object) -> PlanError:
        """The error of an operation that cannot run on tensors without memory."""
        place = f"the module {self.module}" if self.module else "the model itself"
        return PlanError(
            f"The operation {operation} in {place} needs values, which a plan's tensors do not "
            "have."
        )

    def block(self, tensor: Tensor) -> Block:
        """The block of the tensor's storage, which is followed from now on."""
        storage = tensor.untyped_storage()
        known = self._blocks.get(id(storage))
        if known is not None:
            known[1].has_views |= tensor is not known[2]()
            return known[1]
        block = Block(storage.nbytes(), module=self.module)
        key = id(storage)

        def die(_: object) -> None:
            del self._blocks[key]
            last = self.events[-1]
            in_place = last.born and last.block.addend is block
            self.events.insert(len(self.events) - in_place, Event(block, False, self.phase))

        self._blocks[key] = weakref.ref(storage, die), block, weakref.ref(tensor)
        self.events.append(Event(block, True, self.phase))
        return block

    def mark(self, tensors: Iterable[Tensor], category: str, module: str | None = None) -> None:
        """Say what these tensors' storages are for, and whose, if nothing has been said yet."""
        for tensor in tensors:
            block = self.block(tensor)
            if block.category == TEMPORARY:
                block.category = category
                block.module = block.module if module is None else module

    def forget(self, tensors: Iterable[Tensor]) -> None:
        """Let these tensors' storages count as if there had never been any."""
        for tensor in tensors:
            self.block(tensor).nbytes = 0

    def quantisable(self, weights: Mapping[Tensor, LinearWeight]) -> None:
        """Say which tensors could be stored quantised; they live as long as the recorder."""
        for tensor, weight in weights.items():
            self.block(tensor).weight = weight
            self._weights[id(tensor.untyped_storage())] = weight
