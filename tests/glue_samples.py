"""A small GLUE: the nine tasks as folders of TSV files in their own layouts, and as `datasets`.

Rows are (texts..., label), where a label is its number, or a score for STS-B.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from lorakit.tasks.glue.benchmark import GLUE

Rows = Sequence[tuple[Any, ...]]

_SINGLE = [
    ('the film was "good', 1), ("it was very bad", 0), ('"the" plot was warm', 1),
    ("the actor was dull", 0), ("fine", 1), ("cold and poor ", 0),
]  # fmt: skip
_PAIRS = [
    ('the film was "good', "it was great", 1), ("the plot was bad", "it was good", 0),
    ("the actor was warm", 'very "warm" it was', 1), ("it was dull", "it was fine", 0),
    ("very poor", 'the "film" was poor', 1), ("the plot", "the actor", 0),
]  # fmt: skip
_THREE_WAY = [(a, b, i % 3) for i, (a, b, _) in enumerate(_PAIRS)]
_SCORED = [(a, b, float(i) * 0.8) for i, (a, b, _) in enumerate(_PAIRS)]
ROWS: dict[str, Rows] = {
    "cola": _SINGLE, "sst2": _SINGLE, "mrpc": _PAIRS, "stsb": _SCORED, "qqp": _PAIRS,
    "mnli": _THREE_WAY, "qnli": _PAIRS, "rte": _PAIRS, "wnli": _PAIRS,
}  # fmt: skip

_PARSES = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
_HEADERS = {
    "sst2": ["sentence", "label"],
    "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "stsb": ["index", "genre", "filename", "year", "old_index", "source1", "source2",
             "sentence1", "sentence2", "score"],
    "qqp": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "mnli": ["index", "promptID", "pairID", "genre", *_PARSES, "sentence1", "sentence2",
             "label1", "gold_label"],
    "qnli": ["index", "question", "sentence", "label"],
    "rte": ["index", "sentence1", "sentence2", "label"],
    "wnli": ["index", "sentence1", "sentence2", "label"],
}  # fmt: skip
_ANSWERS = ("label", "Quality", "score", "is_duplicate", "label1", "gold_label")


def write_folder(folder: Path, zipped: bool = False, repeat: int = 1) -> Path:
    """GLUE's folder: train, dev and test files of every task."""
    for name in GLUE:
        for split, text in _files(name, repeat).items():
            put(folder / GLUE[name].folder / f"{split}.tsv", text, zipped)
    return folder


def put(path: Path, text: str, zipped: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def _files(name: str, repeat: int) -> dict[str, str]:
    labelled, unlabelled = lines(name, [*ROWS[name]] * repeat), lines(name, ROWS[name], test=True)
    files = {"train": labelled}
    for part in GLUE[name].parts:
        end = f"_{part}" if part else ""
        files |= {f"dev{end}": lines(name, ROWS[name]), f"test{end}": unlabelled}
    return files


def lines(name: str, rows: Rows, test: bool = False) -> str:
    """A file as GLUE has it: a byte order mark for MRPC, no header for CoLA's labelled files."""
    if name == "cola" and not test:
        table = [["gj04", str(label), "" if label else "*", text] for text, label in rows]
    else:
        header = _HEADERS.get(name, ["sentence", "label"])
        header = (
            ["index", *(c for c in header if c not in (*_ANSWERS, "index"))] if test else header
        )
        table = [header, *(_cells(name, header, i, row) for i, row in enumerate(rows))]
    text = "\n".join("\t".join(cells) for cells in table) + "\n"
    return "\ufeff" + text if name == "mrpc" else text


def _cells(name: str, header: Sequence[str], index: int, row: tuple[Any, ...]) -> list[str]:
    task, (*texts, label) = GLUE[name], row
    if task.labels and not task.numbered:
        label = task.labels[label]
    known = dict(zip((theirs for _, theirs in task.columns), texts, strict=True))
    known |= {"index": str(index), **{answer: str(label) for answer in _ANSWERS}}
    return [known.get(column, "-") for column in header]


def hub_split(name: str, split: str, repeat: int = 1) -> Any:
    """What `datasets.load_dataset("nyu-mll/glue", name, split=split)` gives for the same rows."""
    task, hidden = GLUE[name], split.startswith("test")
    rows = [*ROWS[name]] * (repeat if split == "train" else 1)
    kind = (
        datasets.ClassLabel(names=list(task.labels)) if task.labels else datasets.Value("float32")
    )
    columns: dict[str, Any] = {c: [row[i] for row in rows] for i, c in enumerate(task.text)}
    columns["label"] = [-1 if hidden else row[-1] for row in rows]
    columns["idx"] = list(range(len(rows)))
    features = {c: datasets.Value("string") for c in task.text}
    features |= {"label": kind, "idx": datasets.Value("int32")}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))
