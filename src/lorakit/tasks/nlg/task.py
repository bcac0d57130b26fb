"""The tasks of data-to-text: how an input and its references become examples.

    ids     i i i i s r r r e        i: the input's tokens, s: the separator, r: a reference's,
    labels  - - - - - r r r e        e: end of text, -: IGNORED

The separator is the tokenizer's BOS token, or EOS where it has no BOS (GPT-2: both are 50256). This
is microsoft/LoRA's encoding, so its checkpoints get the inputs that they were trained on. One input
gives one example a reference in training, and one prompt in decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lorakit.errors import ConfigError
from lorakit.metrics.data_to_text import check_task
from lorakit.tasks.base import Rows
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.generation import CausalTask
from lorakit.tasks.nlg.inputs import INPUT, REFERENCES
from lorakit.tasks.nlg.report import score_texts
from lorakit.tasks.text_models.decoder import columns_of, last_tokens


@dataclass(frozen=True)
class DataToText(CausalTask):
    """Your own data: `prompt` and `references`."""

    text: tuple[str, ...] = (INPUT,)
    label: str | None = REFERENCES
    max_length: int = 512

    name: ClassVar[str] = "data_to_text"

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """One example a reference; without references one prompt an input."""
        if self.label is None or self.label not in rows:
            return self.prompts(tokenizer, rows)
        counts = [len(references) for references in rows[self.label]]
        texts = [f" {text}" for references in rows[self.label] for text in references]
        answers = iter(_ids(tokenizer, texts))
        examples = []
        for prompt, count in zip(self._prompt_ids(tokenizer, rows), counts, strict=True):
            for _ in range(count):
                answer = next(answers)
                examples.append((prompt + answer, [IGNORED] * len(prompt) + answer))
        return columns_of(examples, self.max_length, self.end_id(tokenizer))

    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """Prompts, truncated at their beginning."""
        return last_tokens(self._prompt_ids(tokenizer, rows), self.max_length)

    def references(self, rows: Rows) -> list[str]:
        """The first reference of each input."""
        return [str(references[0]) for references in rows[str(self.label)]]

    def prediction_rows(self, table: Any) -> Iterable[dict[str, Any]]:
        """All columns of the corpus, with `references`."""
        rows: Iterable[dict[str, Any]] = table
        return rows

    def require_packages(self) -> None:
        check_task(self.name)

    def report(
        self, table: Any, predictions: Sequence[Any], output: Path, log: Callable[[str], None]
    ) -> dict[str, float]:
        """The corpus' own metrics, and the files that its official scripts read."""
        return score_texts(self.name, table, predictions, output, log)

    def _prompt_ids(self, tokenizer: Any, rows: Rows) -> list[list[int]]:
        return [[*ids, separator(tokenizer)] for ids in _ids(tokenizer, rows[self.text[0]])]


@dataclass(frozen=True)
class E2E(DataToText):
    """Restaurants: attributes to sentences."""

    name: ClassVar[str] = "e2e"


@dataclass(frozen=True)
class WebNLG(DataToText):
    """Triples from DBpedia to texts; some categories of the test set are unseen."""

    name: ClassVar[str] = "webnlg"


@dataclass(frozen=True)
class Dart(DataToText):
    """Triples from tables to texts."""

    name: ClassVar[str] = "dart"


def separator(tokenizer: Any) -> int:
    """The id of the token between an input and its text; raises ConfigError without BOS and EOS."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ConfigError(
        "Data-to-text puts the BOS or EOS token between input and text, and this tokenizer has "
        "neither."
    )


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return ids
