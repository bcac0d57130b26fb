"""transformers' Trainer with what a run of a task needs: its metrics, adapter-only checkpoints.

A thin subclass; the loop, mixed precision, distributed training and loggers are transformers', and
the steps are `step_trainer`'s.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback

from lorakit.errors import SaveError
from lorakit.inference.scoring import BatchOutput, model_outputs, scores
from lorakit.losses.consistency import ConsistencyLoss
from lorakit.methods import load_adapter, save_adapter
from lorakit.runs.checkpoints import (
    Checkpoint,
    checkpoint_path,
    mark_complete,
    prune,
    remove_checkpoint,
)
from lorakit.runs.writing import writing
from lorakit.tasks.base import Task
from lorakit.tasks.batching import batches, length
from lorakit.training.adapter_trainer import AdapterCheckpoints
from lorakit.training.divergence import (
    require_finite,
    require_finite_step,
    require_finite_weights,
    scaler_can_help,
)
from lorakit.training.step_trainer import StepTrainer


def passes_of(consistency: ConsistencyLoss | None) -> int:
    """How often the loss reads a row."""
    return 1 if consistency is None else 2


def budget_of_rows(token_budget: int, consistency: ConsistencyLoss | None) -> int:
    """The tokens of a micro-batch's rows at most, each as often as the loss reads it."""
    return max(1, token_budget // passes_of(consistency))


class LoraTrainer(AdapterCheckpoints, StepTrainer):
    """Trains `task` on tokenized examples, exactly `total_batch` of them in each step."""

    model: Any
    eval_dataset: Any

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        tokenizer: Any,
        total_batch: int,
        token_budget: int,
        consistency: ConsistencyLoss | None = None,
        **kwargs: Any,
    ) -> None:
        self.task, self.tokenizer = task, tokenizer
        self.consistency, self.evaluation_budget = consistency, token_budget
        self._earlier, self._started = 0.0, time.perf_counter()
        super().__init__(
            model,
            total_batch=total_batch,
            token_budget=budget_of_rows(token_budget, consistency),
            data_collator=self._collate,
            weight=task.weight,
            processing_class=tokenizer,
            **kwargs,
        )
        self.callback_handler.callbacks = [
            callback  # not those that print dicts; callbacks.progress is in their place
            for callback in self.callback_handler.callbacks
            if type(callback) not in (PrinterCallback, ProgressCallback)
        ]

    @property
    def seconds(self) -> float:
        """Seconds of training, over all starts of the run."""
        return self._earlier + time.perf_counter() - self._started

    def train_from(self, checkpoint: Checkpoint | None) -> None:
        """Train to the end; from a checkpoint, the result is that of an uninterrupted run."""
        self._earlier = checkpoint.seconds if checkpoint is not None else 0.0
        self._started = time.perf_counter()
        if checkpoint is None or not checkpoint.is_last:
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
            return
        self.state = checkpoint.state
        load_adapter(self.model, checkpoint.path)
        if self.args.load_best_model_at_end:
            self.load_best_weights()

    # --- steps

    def _collate(self, examples: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        return self.task.collate(self.tokenizer, [dict(example) for example in examples])

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """A step; raises TrainingError if its loss or gradient is not finite."""
        loss = super().training_step(*args, **kwargs)
        if not scaler_can_help(self.accelerator.scaler):
            require_finite_step(
                loss, self.model.parameters(), self.state.global_step + 1, self.args
            )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the numbers that are finite: a step that fp16 skips has an infinite gradient."""
        super().log({n: v for n, v in logs.items() if math.isfinite(v)}, start_time)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The model's own loss, or the consistency loss."""
        if self.label_smoother is not None and "decoder_attention_mask" in inputs:
            # transformers takes the labels away, from which the model makes its decoder's inputs
            shifted = model.prepare_decoder_input_ids_from_labels(labels=inputs["labels"])
            inputs = {**inputs, "decoder_input_ids": shifted}
        if self.consistency is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        return self.consistency(model, inputs)

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
        """Metrics, and in the data's order predictions; none if the task generates text."""
        on_disk = bool(getattr(dataset, "cache_files", None))
        examples = dataset if on_disk else [dict(example) for example in dataset]
        self.model.eval()
        eval_batches = batches([length(example) for example in examples], self.evaluation_budget)
        self.callback_handler.eval_dataloader = eval_batches
        mine = eval_batches[self.args.process_index :: self.args.world_size]
        with self.accelerator.autocast():
            outputs = model_outputs(self.model, self.task, self.tokenizer, examples, mine)
            seen = self._with_callbacks(outputs)
            result = scores(self.task, examples, seen, self.args.device)
        place = f"the loss in the evaluation after step {self.state.global_step}"
        require_finite(result[0]["loss"], place, self.args)
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, {})
        return result

    def _with_callbacks(self, outputs: Iterable[BatchOutput]) -> Iterator[BatchOutput]:
        """The outputs; calls the callbacks' on_prediction_step after each."""
        for batch in outputs:
            yield batch
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )

    # --- checkpoints

    def save_weights(self, directory: Path) -> None:
        save_adapter(self.model, directory)  # without the tokenizer, which the run has

    def save_checkpoint(self, save: Callable[[], None]) -> None:
        run = Path(str(self.args.output_dir))
        current = checkpoint_path(run, self.state.global_step)
        try:
            with writing(current, run):
                self._save_checkpoint_at(current, save)
        except SaveError:
            shutil.rmtree(current, ignore_errors=True)  # half of it may fill the disk
            raise

    def _save_checkpoint_at(self, current: Path, save: Callable[[], None]) -> None:
        require_finite_weights(self.model.parameters(), self.state.global_step, self.args)
        if self.args.should_save:
            remove_checkpoint(current)  # one that was damaged
        self.accelerator.wait_for_everyone()
        save()
        self.accelerator.wait_for_everyone()  # each process writes its random state
        if self.args.should_save:
            mark_complete(current, self.seconds)
            prune(current.parent, self.state.global_step, self.state.best_global_step)
