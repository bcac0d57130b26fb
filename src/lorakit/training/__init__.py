"""From a recipe to a trained run, on transformers' Trainer; its parts work in any Trainer.

`train` is the whole, `train_together` that of several runs over one base. `StepTrainer` is a
Trainer whose step sees exactly `total_batch` examples, `AdapterTrainer` one whose checkpoints are
adapters (`AdapterCheckpoints` is the mixin for yours), `StepSampler` and `MicroBatches` are the
same for your own training loop, `HealthCheck` stops a run in which a trainable tensor does not
change, `group_parameters` gives an optimizer its groups (LoRA+, learning rates and weight decays
by name).
"""

from lorakit.training.adapter_trainer import AdapterCheckpoints, AdapterTrainer
from lorakit.training.callbacks import HealthCheck
from lorakit.training.micro_batches import MicroBatches, StepLoader, StepSampler
from lorakit.training.parameter_groups import group_parameters
from lorakit.training.run import train
from lorakit.training.step_trainer import StepTrainer
from lorakit.training.together import train_together

__all__ = [
    "AdapterCheckpoints",
    "AdapterTrainer",
    "HealthCheck",
    "MicroBatches",
    "StepLoader",
    "StepSampler",
    "StepTrainer",
    "group_parameters",
    "train",
    "train_together",
]
