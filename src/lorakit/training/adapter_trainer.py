"""transformers' Trainer whose checkpoints and saved model are the adapter, not the whole model.

For any method of lorakit and any model, also one without `save_pretrained`: what trains is written
by `save_adapter`, beside the optimizer's state, and read strictly by `load_adapter` when training
goes on and when the best checkpoint is loaded at the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer

from lorakit.methods import load_adapter, save_adapter
from lorakit.private.transformers_names import CheckpointHooks


class AdapterCheckpoints(CheckpointHooks):
    """The mixin, for a Trainer of one's own: `class MyTrainer(AdapterCheckpoints, SFTTrainer)`.

    It comes first among the bases.
    """

    def save_weights(self, directory: Path) -> None:
        trainer: Any = self
        save_adapter(trainer.model, directory)
        if trainer.processing_class is not None:
            trainer.processing_class.save_pretrained(directory)

    def load_weights(self, checkpoint: Path) -> None:
        trainer: Any = self
        load_adapter(trainer.model, checkpoint)

    def load_best_weights(self) -> None:
        trainer: Any = self
        if best := trainer.state.best_model_checkpoint:
            # By its name: the directory may have been moved between two starts.
            load_adapter(trainer.model, Path(trainer.args.output_dir) / Path(best).name)


class AdapterTrainer(AdapterCheckpoints, Trainer):
    """transformers' Trainer, with checkpoints that hold the adapter and the optimizer's state."""
