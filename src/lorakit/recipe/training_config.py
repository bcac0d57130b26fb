"""How a run optimises: the section `training` of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lorakit.config.patterns import key_problem
from lorakit.config.values import is_name
from lorakit.errors import require

Schedule = Literal["linear", "cosine", "constant", "inverse_sqrt"]


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation and evaluation; the optimizer is AdamW.

    Where None means "derived", `lorakit.recipe.defaults` does it; the run's recipe has the numbers.
    """

    learning_rate: float | None = None
    """Peak learning rate of AdamW. None: derived from the method and the width of the base."""
    epochs: float | None = None
    """Passes over the training set; transformers' num_train_epochs. None: derived: 300
    steps, 100 where text is generated; at least 1 epoch and at most 20."""
    total_batch: int | None = None
    """Examples in one optimizer step, over all processes: per-device batch size times gradient
    accumulation steps times processes. `token_budget` says how they are computed. None: derived
    from the number of examples: 8, 16 or 32."""
    max_steps: int | None = None
    """Number of optimizer steps, in place of `epochs`. None: by `epochs`."""
    warmup_ratio: float = 0.06
    """Share of the steps over which the learning rate rises linearly from 0."""
    warmup_steps: int | None = None
    """Number of warmup steps, in place of `warmup_ratio`. None: by `warmup_ratio`."""
    loraplus_lr_ratio: float | None = None
    """LoRA+: the learning rate of every adapter's B over that of A, which is `learning_rate`; 16
    is the paper's rule of thumb. None: the same for both."""
    learning_rate_pattern: Mapping[str, float] = field(default_factory=dict)
    """Peak learning rate of what trains and is named by the key, or is in a module that is: a
    regular expression or a suffix, as in `lora.rank_pattern`; the first key that matches counts. It
    is the rate as it stands, for B too."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay; none on biases and normalisation layers."""
    weight_decay_pattern: Mapping[str, float] = field(default_factory=dict)
    """Weight decay by the same kind of key."""
    adam_epsilon: float = 1e-8
    """AdamW's epsilon."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread evenly over all labels or tokens, in
    training only; transformers' label_smoothing_factor."""
    base_dropout: Literal["on", "off"] = "on"
    """Dropout in the base model. off sets every dropout probability of its config to 0 and leaves
    the adapters' (`lora.lora_dropout`); on a CPU steps are then about a third faster."""
    schedule: Schedule = "linear"
    """Learning-rate schedule after the warmup; transformers' lr_scheduler_type."""
    max_grad_norm: float = 1.0
    """Gradient clipping: the maximum norm. 0: no clipping."""
    token_budget: int = 4096
    """Maximum number of tokens, padding included, in one micro-batch; a step accumulates the
    gradients of as many micro-batches as it takes. Changes time and memory only."""
    seed: int = 0
    """Random seed of initialisation, order of examples and dropout."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Mixed precision: the dtype of autocast and of frozen parameters. auto: bf16 where the
    hardware multiplies in it, else fp32. Trainable parameters are always float32, and so are a
    classification head, the loss, and attention in bf16 on a CPU without AMX. evaluate, predict
    and generate compute as the run did; an adapter alone computes in float32."""
    deterministic: bool = False
    """Use deterministic algorithms: the same bits again on the same machine, perhaps slower."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    compile: Literal["auto", "on", "off"] = "off"
    """Forward and backward through torch.compile, once for all lengths of micro-batches. on takes
    from seconds to minutes at the start of a run and of each resumption. auto compiles where the
    run is long enough to win that back, measures, and keeps the faster way; a resumed run keeps
    to it. Evaluation and saved files are never compiled. Losses are equal up to rounding."""
    classifier_dropout: float | None = None
    """Dropout probability before the head of a sequence classification model. None: as in the
    base's config."""
    early_stopping: int | None = None
    """Early stopping patience: stop after that many evaluations without an improvement, and load
    the best checkpoint. 0: no early stopping. None: 5 with a validation set, else 0."""
    evaluations: int = 10
    """Number of checkpoints over the run, each with an evaluation if there is a validation set."""
    check: Literal["on", "off"] = "on"
    """Stop with an error after three optimizer steps if a trainable tensor has not changed."""
    report_to: Sequence[str] = ()
    """Trackers that get the recipe and all metrics, by transformers' names: tensorboard, wandb,
    mlflow, trackio, ...; local files go to the run's directory."""

    def __post_init__(self) -> None:
        values = {(name, name): getattr(self, name) for name in _TRAINING_RANGES}
        problems = {}
        for pattern, of in _PATTERNS.items():
            for key, value in getattr(self, pattern).items():
                values[f"{pattern}[{key!r}]", of] = value
                problem = key_problem(key) if is_name(key) else f"the key {key!r} is no name"
                problems[f"{pattern}: {problem}"] = problem is None
        for (name, of), value in values.items():
            allowed, holds = _TRAINING_RANGES[of]
            problems[f"{name} is {value}; it must be {allowed}"] = value is None or holds(value)
        require(problems)


_PATTERNS = {"learning_rate_pattern": "learning_rate", "weight_decay_pattern": "weight_decay"}
"""Settings by name, and the setting of which they are values."""
_Range = tuple[str, Callable[[Any], bool]]
_AT_LEAST_1: _Range = ("at least 1", lambda value: value >= 1)
_ABOVE_0: _Range = ("above 0", lambda value: value > 0)
_NOT_NEGATIVE: _Range = ("0 or above", lambda value: value >= 0)
_SHARE: _Range = ("in [0, 1)", lambda value: 0 <= value < 1)
_TRAINING_RANGES: dict[str, _Range] = {
    "learning_rate": _ABOVE_0,
    "epochs": _ABOVE_0,
    "total_batch": _AT_LEAST_1,
    "max_steps": _AT_LEAST_1,
    "loraplus_lr_ratio": _ABOVE_0,
    "warmup_ratio": _SHARE,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "adam_epsilon": _ABOVE_0,
    "label_smoothing": _SHARE,
    "max_grad_norm": _NOT_NEGATIVE,
    "token_budget": _AT_LEAST_1,
    "seed": ("in [0, 2**32)", lambda value: 0 <= value < 2**32),
    "classifier_dropout": _SHARE,
    "early_stopping": _NOT_NEGATIVE,
    "evaluations": _AT_LEAST_1,
}
