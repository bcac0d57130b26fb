"""A small part of E2E for the demo: `python -m demo.e2e FOLDER` prints the files that it makes.

E2E (Novikova et al., arXiv 1706.09254; CC BY-SA 4.0) is the repository tuetschek/e2e-dataset on
GitHub. It is in no package, so a folder with its files is needed.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import sys
from pathlib import Path

from demo.cache import cache_directory

FOLDERS = ("../e2e-dataset", "../shared/data/e2e_nlg")
TRAIN_REFERENCES, TEST_INPUTS = 480, 24

Rows = list[tuple[str, str]]


def prepare(folder: str | None = None) -> tuple[Path, Path]:
    """The training references and test inputs of the demo as CSV files, in the cache.

    Raises SystemExit if the data are not there.
    """
    places = [Path(name) for name in ([folder] if folder else FOLDERS)]
    found = next((place for place in places if _file(place, "trainset.csv")), None)
    if found is None:
        raise SystemExit(
            f"No trainset.csv in {' or '.join(map(str, places))}. E2E is github.com/tuetschek/"
            "e2e-dataset: clone it, then make demo-generate E2E=FOLDER."
        )
    train, test = read(found, "trainset.csv"), read(found, "testset_w_refs.csv")
    few = random.Random(0).sample(train, min(TRAIN_REFERENCES, len(train)))
    inputs = list(dict.fromkeys(meaning for meaning, _ in test))
    chosen = set(inputs[:: max(1, len(inputs) // TEST_INPUTS)][:TEST_INPUTS])
    parts = {"e2e-train.csv": few, "e2e-test.csv": [row for row in test if row[0] in chosen]}
    cache_directory().mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        with (cache_directory() / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("mr", "ref"), *rows])
    train_file, test_file = (cache_directory() / name for name in parts)
    return train_file, test_file


def read(folder: Path, name: str) -> Rows:
    """(meaning, reference) of every row."""
    file = _file(folder, name)
    if file is None:
        raise SystemExit(f"{folder} has no {name}.")
    content = file.read_bytes()
    text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8-sig")
    rows = csv.reader(io.StringIO(text, newline=""))
    next(rows)
    return [(meaning, reference) for meaning, reference in rows]


def _file(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / f"{name}.gz")
    return next((place for place in places if place.is_file()), None)


if __name__ == "__main__":
    for path in prepare(*sys.argv[1:2]):
        print(path)
