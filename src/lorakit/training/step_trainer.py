"""transformers' Trainer whose step sees exactly `total_batch` examples, in micro-batches.

Nothing here is about LoRA or a task: it trains any model on any tokenized examples, and a Trainer
of your own can be a subclass of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState

from lorakit.errors import ConfigError
from lorakit.models.processes import sum_gradients, total
from lorakit.private.transformers_names import StepHooks
from lorakit.training.compilation import Compilation
from lorakit.training.compile_choice import AtTrainBegin, Choice, CompileChoice, choose
from lorakit.training.micro_batches import Collate, MicroBatches, StepLoader, StepSampler
from lorakit.training.substitute import Batch, Substitute

Weight = Callable[[Mapping[str, Any]], float | Tensor]


def examples_in(batch: Mapping[str, Any]) -> float:
    """The weight of a batch's mean loss if each example has one label: the number of examples."""
    return float(len(batch["labels"]))


class StepTrainer(StepHooks, Trainer):
    """Trains on steps of `total_batch` examples over all processes.

    A step is computed in micro-batches of similar length, each within `token_budget` tokens.
    `data_collator` makes one, and `model` gives its mean loss; `weight(batch)` is the number of
    labels in that mean, so a step's loss is the mean over all of the step, however it was split.
    The batch size in `args` has no effect, nor has its `torch_compile`: `compile` is on, off, or
    auto, as `training.compile` of a recipe. `log` gets what is said of it, and `kwargs` are
    Trainer's. Raises ConfigError if `args` sets gradient accumulation steps.

    ``StepTrainer(model, total_batch=32, token_budget=4096, data_collator=..., args=...)``
    """

    train_dataset: Any

    def __init__(
        self,
        model: nn.Module,
        *,
        total_batch: int,
        token_budget: int,
        data_collator: Collate,
        weight: Weight = examples_in,
        compile: Choice = "off",
        log: Callable[[str], None] = print,
        **kwargs: Any,
    ) -> None:
        args = kwargs.get("args")
        if args is not None and args.gradient_accumulation_steps != 1:
            raise ConfigError(
                f"gradient_accumulation_steps is {args.gradient_accumulation_steps}; leave it at 1 "
                "and set total_batch: each step accumulates the gradients of micro-batches within "
                "token_budget."
            )
        self.total_batch, self.token_budget, self.weight = total_batch, token_budget, weight
        super().__init__(model=model, data_collator=data_collator, **kwargs)
        self.compile, self.write_log = compile, log
        self.compilation: Compilation | None = None
        self.shared: Substitute | None = None
        """A backbone that is shared with other runs."""
        if compile != "off":
            self.add_callback(CompileChoice())
            # before those that add hooks, which would be compiled in
            self.callback_handler.callbacks.insert(0, AtTrainBegin(self._begin_compiling))

    def get_train_dataloader(self) -> DataLoader[Any]:
        sampler = StepSampler(
            len(self.train_dataset),
            self.total_batch,
            self.args.seed,
            self.args.process_index,
            self.args.world_size,
        )
        return StepLoader(self.train_dataset, batch_sampler=sampler, collate_fn=self._cut)

    @property
    def _cut(self) -> MicroBatches:
        collator: Any = self.data_collator
        return MicroBatches(collator, self.token_budget)

    # --- what computes

    def _begin_compiling(self, state: TrainerState) -> None:
        """Compile the model, if the run has not chosen otherwise; before its first step."""
        kept: CompileChoice = next(
            c for c in self.callback_handler.callbacks if isinstance(c, CompileChoice)
        )
        self.compilation = None
        if kept.compiled is False:
            return
        trained: Any = self.model
        trained.train()
        first = StepSampler(len(self.train_dataset), self.total_batch, self.args.seed).steps[0]
        mine = first[self.args.process_index :: self.args.world_size] or first[:1]
        examples = [self.train_dataset[i] for i in mine]
        batches = self._cut(examples)["micro_batches"]
        single = self._cut(examples[:1])["micro_batches"]
        compilation = Compilation(trained, self.loss_of, [*single, *batches], self.write_log)
        left = state.max_steps - state.global_step
        kept.compiled = choose(self.compile, compilation, batches, left, kept.compiled)
        if kept.compiled:
            self.compilation = compilation

    def loss_of(self, model: Any, batch: Batch) -> Tensor:
        """The mean loss of a micro-batch."""
        with self.compute_loss_context_manager():
            loss: Any = self.compute_loss(model, self.prepare_inputs(batch))
        return cast(Tensor, loss)

    def _model_for(self, batch: Batch) -> AbstractContextManager[Any]:
        """The model that computes this micro-batch, forward and backward inside."""
        substitute = self.shared or self.compilation
        if substitute is None:
            return nullcontext(self.model)
        substitute.show_to_hooks(batch)
        return substitute.for_batch(batch)

    # --- a step

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward of every micro-batch; the loss is the mean over the whole step.

        `model` may be wrapped for several processes; the gradients are summed here instead.
        """
        trained: Any = self.model
        if not trained.training:
            trained.train()
        batches = inputs["micro_batches"]
        weights = [float(self.weight(batch)) for batch in batches]
        whole = total(sum(weights), self.args.device)
        step_loss = torch.zeros((), device=self.args.device)
        for batch, weight in zip(batches, weights, strict=True):
            if weight == 0:
                continue  # no labels in it
            with self._model_for(batch) as model:
                loss = self.loss_of(model, batch) * (weight / whole)
                self.accelerator.backward(loss)
            step_loss += loss.detach()
        return sum_gradients(trained.parameters(), step_loss)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0
