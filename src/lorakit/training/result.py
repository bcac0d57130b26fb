"""The content of result.json: metrics, counts, seconds, memory, versions."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

import lorakit
from lorakit.models.dtypes import resolve_dtype
from lorakit.runs.directory import ADAPTER, RunResult
from lorakit.tasks.baseline import Baseline
from lorakit.training.memory import peak_memory
from lorakit.training.preparation import Prepared


def run_result(
    run: Prepared,
    metrics: dict[str, float],
    baseline: Baseline | None,
    said: list[str],
    seconds: float,
    planned: int | None,
    output: Path,
) -> RunResult:
    """What is to be said of a run that has ended, with its adapter in place."""
    recipe = run.recipe
    files = list((output / ADAPTER).glob("*.safetensors"))
    return RunResult(
        method=recipe.method,
        task=str(recipe.data.task),
        metrics=metrics,
        trainable_parameters=sum(p.numel() for p in run.model.parameters() if p.requires_grad),
        head_parameters=sum(run.report.trained.values()),
        adapter_bytes=sum(file.stat().st_size for file in files),
        examples={name: len(table) for name, table in run.tables.items()},
        steps=run.trainer.state.global_step,
        seconds=round(seconds, 1),
        peak_memory_bytes=peak_memory(),
        planned_peak_bytes=planned,
        seed=recipe.training.seed,
        dtype=resolve_dtype(recipe.training.dtype),
        versions={m.__name__: m.__version__ for m in (lorakit, torch, transformers)},
        commit=own_commit(),
        output=str(output),
        warm_start=asdict(run.start) if run.start is not None else None,
        base=recipe.base,
        loss=recipe.loss.kind,
        baseline=asdict(baseline) if baseline is not None else None,
        remarks=said,
    )


def own_commit() -> str | None:
    """The commit of lorakit's own checkout, if it runs from one; not of a checkout around it."""
    package = Path(lorakit.__file__).resolve().parent
    command = ["git", "-C", str(package), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    project, commit = answer.stdout.splitlines()
    return commit if Path(project).resolve() / "src" == package.parent else None
