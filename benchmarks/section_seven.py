"""The paper's section 7 on MiniLM-L6: what ranks 8 and 64 and two seeds have learned of reviews."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import reviews
from benchmarks.first_runs import lorakit
from benchmarks.registry import Row, Settings, spread
from benchmarks.reviews_worker import model_directory

TRAIN_ROWS, LAYERS = 4000, 6
RUNS = {"r 8, seed 0": (8, 0), "r 64, seed 1": (64, 1), "r 64, seed 2": (64, 2)}
PAIRS = (("r 8, seed 0", "r 64, seed 1"), ("r 64, seed 1", "r 64, seed 2"))
KINDS = ("query", "value")
CONDITIONS = {
    "training": f"{TRAIN_ROWS:,} of the demo's reviews, one epoch, batch 32, learning rate 2e-3",
    "adapter": "query and value, alpha twice the rank, and the new head",
    "value": f"the median over the {LAYERS} layers, with the least and the greatest",
    "by chance": "the same of random directions: the mean over ten draws, and over the layers",
    "phi(i, j)": "how much of the first i directions of the one lies in the first j of the other",
}


def check(settings: Settings) -> None:
    """The data is there, and an adapter shares all directions with itself."""
    reviews.check(settings)
    with tempfile.TemporaryDirectory() as directory:
        run = trained(Path(directory) / "run", 2, 0, rows=64)
        itself = analysed(run, [run])["comparisons"][0]["similarities"]
        assert all(abs(one["phi"][-1][-1] - 1) < 1e-6 for one in itself if one["phi"])


def rows(settings: Settings) -> Iterator[Row]:
    count = 64 if settings.quick else TRAIN_ROWS
    with tempfile.TemporaryDirectory() as directory:
        runs = {
            name: trained(Path(directory) / name.replace(", ", "-").replace(" ", ""), *run, count)
            for name, run in RUNS.items()
        }
        for name, run in runs.items():
            yield from alone(name, analysed(run)["matrices"])
        for first, second in PAIRS:
            found = analysed(runs[first], [runs[second]])
            yield from beside(f"{first} and {second}", found["comparisons"][0])


def trained(output: Path, rank: int, seed: int, rows: int) -> Path:
    """A run on so many of the reviews."""
    settings = {
        "data.train_rows": rows,
        "lora.r": rank,
        "lora.lora_alpha": 2 * rank,
        "lora.target_modules": "query,value",
        "training.seed": seed,
        "training.epochs": 1,
        "training.total_batch": 32,
        "training.learning_rate": 2e-3,
    }
    given = [f"--set={name}={value}" for name, value in settings.items()]
    source = ("--base", model_directory(), "--data", reviews.data(), "--output", output)
    lorakit("train", *source, *given)
    return output


def analysed(run: Path, against: Sequence[Path] = ()) -> Any:
    """What `lorakit analyze` finds, with the base."""
    others = [part for other in against for part in ("--against", str(other))]
    command = [sys.executable, "-m", "lorakit", "analyze", str(run), *others]
    command += ["--base", str(model_directory()), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def alone(name: str, matrices: Sequence[Any]) -> Iterator[Row]:
    """The spectra, and the base in the directions of the updates."""
    for kind in KINDS:
        found = [matrix for matrix in matrices if matrix["name"].endswith(kind)]
        spectra = [matrix["spectrum"] for matrix in found]
        projected = [matrix["projection"] for matrix in found]
        by_chance = sum(one["on_random"] for one in projected) / len(projected)
        for measure, values, chance in (
            ("effective rank", [one["effective_rank"] for one in spectra], ""),
            ("rank for an error of 10%", [one["sufficient_ranks"]["0.1"] for one in spectra], ""),
            ("norm of U^T W V, U and V of dW", [one["on_update"] for one in projected], by_chance),
            ("norm of U^T W V, U and V of W", [one["on_weight"] for one in projected], by_chance),
            ("amplification", [one["amplification"] for one in projected], ""),
        ):
            yield row(name, kind, measure, values, chance)


def beside(names: str, compared: Any) -> Iterator[Row]:
    """phi of the first directions, and of all."""
    control = compared["controls"][0]["mean"]
    for kind in KINDS:
        for of in ("A", "B", "dW, input", "dW, output"):
            phi = [
                one["phi"]
                for one in compared["similarities"]
                if one["name"].endswith(kind) and one["of"] == of
            ]
            for i, j in ((1, 1), (1, len(phi[0][0])), (len(phi[0]), len(phi[0][0]))):
                values = [one[i - 1][j - 1] for one in phi]
                yield row(names, kind, f"phi({i}, {j}) of {of}", values, control[i - 1][j - 1])


def row(
    adapters: str, kind: str, measure: str, values: Sequence[float], chance: float | str
) -> Row:
    """One measure of the matrices of one kind."""
    return {
        "adapters": adapters,
        "matrices": kind,
        "measure": measure,
        "value": spread(values),
        "by chance": chance,
    }
