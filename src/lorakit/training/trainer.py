"""transformers' Trainer with what LoRA needs: steps in micro-batches, adapter-only checkpoints.

A thin subclass; the loop, mixed precision, distributed training and loggers are transformers'.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerState

from lorakit.errors import SaveError
from lorakit.tasks.base import Task
from lorakit.training.batching import MicroBatches, StepLoader, StepSampler, cut, length
from lorakit.training.checkpoints import (
    STATE,
    checkpoint_path,
    is_last,
    load_trained,
    mark_complete,
    prune,
    save_trained,
    seconds_until,
)
from lorakit.training.distributed import gathered, sum_gradients, total
from lorakit.training.two_passes import TwoPasses

_SORTED_TOGETHER = 512
"""Examples among which an evaluation looks for those of like length."""


class LoraTrainer(Trainer):
    """Trains `task` on tokenized examples, exactly `total_batch` of them in each step."""

    model: Any
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        tokenizer: Any,
        total_batch: int,
        token_budget: int,
        two_passes: TwoPasses | None = None,
        **kwargs: Any,
    ) -> None:
        self.task, self.tokenizer = task, tokenizer
        self.total_batch, self.token_budget = total_batch, token_budget
        self.two_passes = two_passes
        self._earlier, self._started = 0.0, time.perf_counter()
        super().__init__(model=model, processing_class=tokenizer, **kwargs)
        self.callback_handler.callbacks = [
            callback  # not those that print dicts; callbacks.progress is in their place
            for callback in self.callback_handler.callbacks
            if type(callback) not in (PrinterCallback, ProgressCallback)
        ]

    @property
    def seconds(self) -> float:
        """Time of training, over all starts of the run."""
        return self._earlier + time.perf_counter() - self._started

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end; from a checkpoint on, as if there had been no interruption."""
        self._earlier = seconds_until(checkpoint) if checkpoint is not None else 0.0
        self._started = time.perf_counter()
        if checkpoint is None or not is_last(checkpoint):
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
            return
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))
        load_trained(self.model, checkpoint)
        if self.args.load_best_model_at_end:
            self._load_best_model()

    # --- steps

    def get_train_dataloader(self) -> DataLoader[Any]:
        sampler = StepSampler(
            len(self.train_dataset),
            self.total_batch,
            self.args.seed,
            self.args.process_index,
            self.args.world_size,
        )
        budget = max(1, self.token_budget // (1 if self.two_passes is None else 2))
        collate = MicroBatches(self._collate, budget)
        return StepLoader(self.train_dataset, batch_sampler=sampler, collate_fn=collate)

    def _collate(self, examples: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        return self.task.collate(self.tokenizer, [dict(example) for example in examples])

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward of every micro-batch; the loss is the mean over the whole step.

        `model` may be wrapped for several processes; the gradients are summed here instead.
        """
        if not self.model.training:
            self.model.train()
        batches = inputs["micro_batches"]
        weights = [float(self.task.weight(batch)) for batch in batches]
        whole = total(sum(weights), self.args.device)
        step_loss = torch.zeros((), device=self.args.device)
        for batch, weight in zip(batches, weights, strict=True):
            if weight == 0:
                continue  # nothing in it counts
            with self.compute_loss_context_manager():
                loss = self._loss(self._prepare_inputs(batch))
            loss = loss * (weight / whole)
            self.accelerator.backward(loss)
            step_loss += loss.detach()
        return sum_gradients(self.model.parameters(), step_loss)

    def _loss(self, batch: dict[str, Any]) -> Any:
        if self.two_passes is None:
            return self.compute_loss(self.model, batch)
        return self.two_passes(self.model, batch)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        return None  # training_step counts for itself

    # --- evaluation

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The task's metrics, logged as `eval_...`."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        metrics = {f"{metric_key_prefix}_{n}": v for n, v in self.examine(dataset)[0].items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def examine(self, dataset: Any) -> tuple[dict[str, float], list[Any]]:
        """Metrics and, in the data's order, predictions; a task that generates has none here."""
        examples = [dict(example) for example in dataset]
        self.model.eval()
        outputs: list[tuple[int, Tensor]] = []
        sums = {"loss": 0.0, "hits": 0.0, "count": 0.0}
        batches = self._evaluation_batches(examples)
        self.callback_handler.eval_dataloader = batches
        for indices in batches[self.args.process_index :: self.args.world_size]:
            batch = self._collate([examples[i] for i in indices])
            weight = float(self.task.weight(batch))
            batch = self._prepare_inputs(batch)
            with torch.no_grad(), self.accelerator.autocast():
                result = self.model(**batch)
            sums["count"] += weight
            sums["loss"] += float(result.loss) * weight if weight else 0.0
            if self.task.generates:
                sums["hits"] += _hits(result.logits, batch["labels"])
            else:
                outputs += zip(indices, result.logits.float().cpu(), strict=True)
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )
        sums = {name: total(value, self.args.device) for name, value in sums.items()}
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, {})
        loss = sums["loss"] / max(sums["count"], 1.0)
        if self.task.generates:
            accuracy = sums["hits"] / max(sums["count"], 1.0)
            return {
                "loss": loss,
                "perplexity": math.exp(min(loss, 700)),
                "token_accuracy": accuracy,
            }, []
        logits = torch.stack([row for _, row in sorted(gathered(outputs), key=lambda o: o[0])])
        labels = torch.tensor([example["labels"] for example in examples])
        return {"loss": loss, **self.task.score(logits, labels)}, self.task.predictions(logits)

    def _evaluation_batches(self, examples: list[dict[str, Any]]) -> list[list[int]]:
        """Indices of examples of like length, within the token budget."""
        lengths = [length(example) for example in examples]
        batches = []
        for start in range(0, len(examples), _SORTED_TOGETHER):
            part = sorted(
                range(start, min(start + _SORTED_TOGETHER, len(examples))), key=lengths.__getitem__
            )
            cuts = cut([lengths[i] for i in part], self.token_budget)
            batches += [part[i:j] for i, j in cuts]
        return batches

    # --- checkpoints

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            save_trained(self.model, Path(output_dir or str(self.args.output_dir)))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run = Path(str(self.args.output_dir))
        current = checkpoint_path(run, self.state.global_step)
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each process writes its random state
            if self.args.should_save:
                mark_complete(current, self.seconds)
                prune(run, self.state.best_global_step)
        except (OSError, RuntimeError) as error:
            raise SaveError(
                f"The checkpoint {current} could not be written: {error}. Make room, and the same "
                "command continues from the last complete checkpoint."
            ) from error

    def _load_from_checkpoint(self, checkpoint: str, model: nn.Module | None = None) -> None:
        load_trained(self.model, Path(checkpoint))

    def _load_best_model(self) -> None:
        if self.state.best_global_step:
            run = Path(str(self.args.output_dir))
            load_trained(self.model, checkpoint_path(run, self.state.best_global_step))


def _hits(logits: Tensor, labels: Tensor) -> float:
    """Number of completion tokens that are the likeliest ones."""
    return float((logits[:, :-1].argmax(-1) == labels[:, 1:]).sum())
