"""Micro-batches through torch.compile: compiled once for all lengths, counted, kept if it pays.

transformers' own `torch_compile` wraps the model that `Trainer.training_step` is given. StepTrainer
computes with `self.model` instead, so the wrapper is made here, around the same parameters, and is
used for forward and backward alone: evaluation, checkpoints and what is saved never meet it.

Sizes are variables of compiled code (`dynamic=True`; as fast as code for one size,
`benchmarks/LOG.md`), but a size of 1 is a constant. So there is one compilation for micro-batches
of several rows and one for those of a single row, each made from examples of the first step: a
resumed run compiles the same code. Whatever else has to be compiled anew is counted, and after
`MOST` graphs micro-batches that fit none of them run uncompiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.private.torch_names import compiler_backend
from lorakit.text import plural
from lorakit.training.substitute import Batch, Compute, Substitute, without_trace

MOST = 8
"""Graphs that are compiled; torch would give up in silence after as many of one function."""


class Compilation(Substitute):
    """A model whose micro-batches run through torch.compile, and how often it has compiled."""

    def __init__(
        self,
        model: nn.Module,
        compute: Compute,
        examples: Sequence[Batch],
        log: Callable[[str], None],
        backend: str = "inductor",
    ) -> None:
        super().__init__(model, compute)
        self.log = log
        self.graphs, self.seconds = 0, 0.0
        self._examples = {form_of(batch): batch for batch in examples}
        self._compiler = compiler_backend(backend)
        torch.compiler.reset()  # its limits hold for a function, in all models of a process
        self._compiled = torch.compile(model, dynamic=True, backend=self._compile)

    def _compile(self, graph: Any, inputs: Any) -> Any:
        code = self._compiler(graph, inputs)
        self.graphs += 1  # after it: where a number turns out to be a constant, torch starts again
        return code

    @contextmanager
    def for_batch(self, batch: Batch) -> Iterator[Any]:
        example = self._examples.pop(form_of(batch), None)
        if example is not None and example is not batch:
            with without_trace(self.model), self._counted():
                self.compute(self._compiled, example).backward()
        with self._counted():
            yield self._compiled

    def trial(self, batch: Batch, compiled: bool) -> Tensor:
        """The loss of this micro-batch, after its backward."""
        with self.for_batch(batch) if compiled else nullcontext(self.model) as model:
            loss = self.compute(model, batch)
            loss.backward()
        return loss.detach()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        before, started = self.graphs, perf_counter()
        limit: AbstractContextManager[object] = nullcontext()
        if before >= MOST:
            limit = torch.compiler.set_stance("eager_on_recompile")
        with limit:
            yield
        if self.graphs > before:
            self.seconds += perf_counter() - started
            more = "; what fits none of these runs uncompiled" if self.graphs >= MOST else ""
            self.log(f"compiled {plural(self.graphs, 'time')} in {self.seconds:.0f} s{more}")


def form_of(batch: Batch) -> object:
    """What compiled code takes for constant: the names, the types, and which sizes are 1."""
    return tuple(
        (name, value.dtype, tuple(size == 1 for size in value.shape))
        for name, value in batch.items()
        if isinstance(value, Tensor)
    )
