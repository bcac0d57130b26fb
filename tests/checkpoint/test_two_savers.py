"""Two that save into one place at once: one is told who writes there, and no adapter is lost."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.errors import SaveError
from lorakit.injection.transfer.saving import bundle_of

FORK = multiprocessing.get_context("fork")
FORMATS = ("peft", "lorakit")
QUICK, SLOW = 10, 160


def bundle(r: int) -> AdapterBundle:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    config = lora.LoraConfig(r=r, target_modules=["0"], init_lora_weights=False)
    lora.inject(model, config)
    return bundle_of(model)


OLD, ONE, OTHER = map(bundle, (1, 2, 3))


def attempt(new: AdapterBundle, path: Path, format: str, start: Any, said: Any) -> None:
    start.wait(30)
    try:
        write(new, path, format)
        said.put((new.config.r, ""))
    except SaveError as error:
        said.put((new.config.r, str(error)))


def both(
    kind: Callable[..., Any], start: Any, said: Any, path: Path, format: str
) -> dict[int, str]:
    """What each of two savers was told, by the rank of its adapter; nothing if it saved."""
    savers = [kind(target=attempt, args=(new, path, format, start, said)) for new in (ONE, OTHER)]
    for saver in savers:
        saver.start()
    answers = dict(said.get(timeout=30) for _ in savers)
    for saver in savers:
        saver.join(30)
    return answers


def assert_one_adapter_is_whole(path: Path, format: str, answers: dict[int, str]) -> None:
    saved = [r for r, said in answers.items() if not said]
    refused = [said for said in answers.values() if said]
    assert saved
    assert all(f"{path} is being written by" in said for said in refused)
    found = read(path)
    assert found.config.r in saved
    expected = {2: ONE, 3: OTHER}[found.config.r].tensors
    assert all(torch.equal(value, expected[name]) for name, value in found.tensors.items())
    left = {"README.md", "adapter_config.json", "adapter_model.safetensors", "trained.safetensors"}
    assert {file.name for file in path.iterdir()} <= left


@pytest.mark.parametrize("format", FORMATS)
def test_two_threads_save_one_whole_adapter(format: str, tmp_path: Path) -> None:
    for n in range(QUICK):
        path = write(OLD, tmp_path / str(n), format)
        answers = both(threading.Thread, threading.Barrier(2), queue.Queue(), path, format)
        assert_one_adapter_is_whole(path, format, answers)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_two_processes_save_one_whole_adapter(format: str, tmp_path: Path) -> None:
    for n in range(SLOW):
        path = write(OLD, tmp_path / str(n), format)
        answers = both(FORK.Process, FORK.Barrier(2), FORK.Queue(), path, format)
        assert_one_adapter_is_whole(path, format, answers)
