"""Outputs of real systems with the scores that the official scorers gave them."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from lorakit.metrics.java import missing_java

needs_java = pytest.mark.skipif(missing_java() is not None, reason="there is no java")


class Reference:
    """The files of `metric_reference`."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.directory = data / "metric_reference"

    def lines(self, name: str) -> list[str]:
        with gzip.open(self.directory / f"{name}.txt.gz", "rt", encoding="utf-8") as file:
            return file.read().removesuffix("\n").split("\n")

    def files(self, corpus: str, hypothesis: str, names: list[str]):
        """Texts, and for each the line of every file of references."""
        streams = [self.lines(f"{corpus}/{name}") for name in names]
        return self.lines(f"{corpus}/{hypothesis}"), [list(g) for g in zip(*streams, strict=True)]

    def e2e(self, system: str):
        """Texts and references of a system on E2E's test set, UKP's on the dev set."""
        references: dict[str, list[str]] = {}
        for row in self._e2e_rows("devset" if system.startswith("UKP") else "testset_w_refs"):
            references.setdefault(row["mr"], []).append(row["ref"])
        if system.startswith("UKP"):
            return self.lines("e2e/ukp_dev_seed1_epoch16"), [*references.values()]
        path = self.directory / f"e2e/{system.lower()}.tsv.gz"
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = [*csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
        # SLUG quotes texts that have a comma; the official scores are of the texts.
        texts = {source.strip('"'): text.strip('"') for source, text in rows}
        return [*texts.values()], [references[source] for source in texts]

    def e2e_references(self) -> list[str]:
        """All references of E2E."""
        splits = ("trainset", "devset", "testset_w_refs")
        return [row["ref"] for split in splits for row in self._e2e_rows(split)]

    def _e2e_rows(self, split: str) -> list[dict[str, str]]:
        path = self.data / f"e2e_nlg/{split}.csv.gz"
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            return [*csv.DictReader(file)]

    def segments(self) -> list[dict]:
        """TGEN's texts, as tokens too, with the official metrics of each."""
        with gzip.open(self.directory / "e2e/tgen_test_segments.jsonl.gz", "rt") as file:
            return [json.loads(line) for line in file]


@pytest.fixture(scope="session")
def official(shared: Path) -> Reference:
    return Reference(shared / "data")
