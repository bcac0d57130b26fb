"""Which data a run learns from, for which task: the section `data` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lorakit.errors import require
from lorakit.tasks import registry

_LARGEST_WEIGHT = 1000


@dataclass(frozen=True)
class DataConfig:
    """Training, validation and test data, the task, and the columns."""

    train: str | Sequence[str] | Mapping[str, float]
    """CSV, TSV, JSON-lines or Parquet file; a folder or a pattern (`shards/*.parquet`) of such
    files; or a data set that `datasets` loads: a directory of `save_to_disk`, `NAME`, `NAME:CONFIG`
    or `NAME:CONFIG:SPLIT`. For a task of GLUE also the folder of its TSV files. A list of these is
    one training set; in a mapping each has a weight, `{a.csv: 1, b.csv: 2.5}`: how often an epoch
    sees each of its rows, of a fraction that share of the rows, drawn by split_seed."""

    test: str | float | None = None
    """The test set: a file or data set, or rows to split from `train`: a share (below 1) or a
    number of rows, of which those whose label training would lack stay there. None: a share of
    0.1; for GLUE its dev set."""

    validation: str | float | None = None
    """The validation set, evaluated during training; as `test`. The best checkpoint is chosen by
    it: see training.early_stopping. None: no evaluation; a share of 0.1 if training.early_stopping
    is set, or data.thresholds is calibrate."""

    measured_on: Literal["test", "validation"] = "test"
    """What the metrics and predictions of the finished run are of. validation: of the validation
    set (without one, a share of 0.1), to choose settings by; the test set is set apart and not
    looked at."""

    task: str | None = None
    """classification, multi_label_classification, regression, multiple_choice, generation,
    chat or language_modeling (whole texts); a task of GLUE or a corpus of data-to-text (e2e,
    webnlg, dart, data_to_text), whose columns are fixed; or a name that was registered with
    `lorakit.tasks.register`. None: guessed from the columns, as one of the first seven."""

    text: Sequence[str] | None = None
    """The input columns, in order. None: guessed."""

    label: str | None = None
    """The column of labels, or of completions. None: guessed."""

    blank: Literal["refuse", "drop"] = "refuse"
    """What becomes of a row with an empty cell that the task needs (nothing, null, NaN or white
    space): refuse names all of them, drop leaves them out of every set and says how many."""

    max_length: int | None = None
    """Maximum number of tokens in an example; longer ones are truncated. None: the model's limit,
    which a greater number does not exceed; 512 for language_modeling, which cuts a longer text
    into several examples."""

    end_token: str | None = None
    """The token that training puts after a completion or an assistant's turn, so that generation
    stops there. None: EOS, or what the chat template writes."""

    thresholds: Sequence[float] | Literal["calibrate"] | None = None
    """The probability above which multi_label_classification predicts a label: one for all labels,
    or one for each in their order; calibrate: for each label the one of the highest F1 on the
    validation set (without one, a share of 0.1), or 0.5 where that has it in fewer than 10 rows.
    None: 0.5."""

    train_rows: float | None = None
    """How many of the rows that are left in `train` a run learns from: a share (below 1) or a
    number, drawn by split_seed; a smaller part is in a larger one. One row of each label that they
    would lack is added. None: all."""

    split_seed: int = 0
    """Random seed of the rows that are split from `train`, and of `train_rows`."""

    def __post_init__(self) -> None:
        if self.text is not None:
            object.__setattr__(self, "text", tuple(self.text))
        if self.thresholds is not None and not self.calibrates:
            object.__setattr__(self, "thresholds", tuple(self.thresholds))
        if isinstance(self.train, list):
            object.__setattr__(self, "train", tuple(self.train))
        names, seed = ("test", "validation", "train_rows"), self.split_seed
        shares = {name: getattr(self, name) for name in names}
        require(
            {
                f"{name} is {value}; it must be a share or a number of rows above 0": value > 0
                for name, value in shares.items()
                if isinstance(value, int | float)
            }
            | {
                f"max_length is {self.max_length}; it must be at least 1": (
                    self.max_length is None or self.max_length >= 1
                ),
                f"split_seed is {seed}; it must be in [0, 2**32)": 0 <= seed < 2**32,
            }
            | {
                f"train gives {name} the weight {weight}; it must be above 0 and at most 1000": (
                    0 < weight <= _LARGEST_WEIGHT
                )
                for name, weight in self.sources.items()
            }
            | {
                "train is empty; name a file": bool(self.sources),
                "train names a file twice; give it a weight of 2 in a mapping": (
                    isinstance(self.train, str) or len(self.sources) == len(self.train)
                ),
            }
            | {problem: False for problem in [registry.task_problem(self.task)] if problem}
        )

    @property
    def calibrates(self) -> bool:
        """Whether thresholds are chosen on the validation set."""
        return self.thresholds == "calibrate"

    @property
    def needs_validation(self) -> bool:
        """Whether a validation set is split off if none is named."""
        return self.calibrates or self.measured_on == "validation"

    @property
    def first_thresholds(self) -> Sequence[float] | None:
        """Those that training decides by, if any are set; before others are chosen, 0.5."""
        return (0.5,) if isinstance(self.thresholds, str) else self.thresholds

    @property
    def sources(self) -> dict[str, float]:
        """What `train` names, with the weight of each."""
        if isinstance(self.train, Mapping):
            return dict(self.train)
        return dict.fromkeys([self.train] if isinstance(self.train, str) else self.train, 1.0)

    @property
    def train_name(self) -> str:
        """The training data in messages."""
        return ", ".join(self.sources)


def split_size(part: float, rows: int) -> int:
    """How many of `rows` a share (below 1) or a number of rows is."""
    return int(part) if part >= 1 else max(1, round(part * rows))
