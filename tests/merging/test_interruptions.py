"""A merge that is killed leaves nothing half under the final name, and the next one says so."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

import lorakit as lora
from lorakit.errors import LorakitWarning
from tests.merging import models

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return models.save(models.llama, tmp_path / "base", shards=True)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return models.adapt(base, LlamaForCausalLM, tmp_path / "adapter", target_modules="all-linear")


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(work: Callable[[], object]) -> int | None:
    """Its exit code, negative for a signal."""
    process = FORK.Process(target=work)
    process.start()
    process.join(60)
    return process.exitcode


def killed_after(blocks: int, adapter: Path, base: Path, output: Path, overwrite: bool) -> None:
    @contextmanager
    def bar(_: int) -> Iterator[Callable[[int], None]]:
        left = [blocks]

        def written(_: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                die()

        yield written

    lora.merge_files(adapter, base, output, overwrite=overwrite, bar=bar)


def contents(place: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in place.iterdir()}


@pytest.mark.parametrize("blocks", [0, 1, 9, 20])
def test_killed_merge_leaves_no_output_and_the_next_one_says_so(
    blocks: int, base: Path, adapter: Path, tmp_path: Path
) -> None:
    output = tmp_path / "merged"
    code = in_a_process(lambda: killed_after(blocks, adapter, base, output, False))
    assert code == -signal.SIGKILL
    assert not output.exists()
    with pytest.warns(LorakitWarning, match=r"merged was interrupted; what it left is removed"):
        lora.merge_files(adapter, base, output)
    models.strict(LlamaForCausalLM, output)
    assert not (tmp_path / ".merged.new").exists()


def test_killed_merge_leaves_what_it_was_to_replace(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    output = tmp_path / "merged"
    lora.merge_files([(adapter, 0.5)], base, output)
    before = contents(output)
    assert in_a_process(lambda: killed_after(9, adapter, base, output, True)) == -signal.SIGKILL
    assert contents(output) == before
    with pytest.warns(LorakitWarning, match="was interrupted"):
        lora.merge_files(adapter, base, output, overwrite=True)
    assert contents(output) != before
    assert sorted(contents(output)) == sorted(before)


def test_what_was_to_be_replaced_comes_back_after_a_kill_between_the_renames(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    output, replace = tmp_path / "merged", os.replace
    lora.merge_files([(adapter, 0.5)], base, output)
    before = contents(output)

    def work() -> None:
        def once(source: Path, target: Path) -> None:
            replace(source, target)
            if Path(source) == output:
                die()

        os.replace = once  # type: ignore[assignment]
        lora.merge_files(adapter, base, output, overwrite=True)

    assert in_a_process(work) == -signal.SIGKILL
    assert not output.exists()
    with (
        pytest.warns(LorakitWarning, match="was interrupted"),
        pytest.raises(lora.errors.SaveError, match="it exists already and has files"),
    ):
        lora.merge_files(adapter, base, output)
    assert contents(output) == before


def test_failed_rename_puts_the_replaced_model_back(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, replace = tmp_path / "merged", os.replace
    lora.merge_files([(adapter, 0.5)], base, output)
    before = contents(output)

    def second_fails(source: Path, target: Path) -> None:
        if Path(target) == output and Path(source).name == "merged":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(lora.errors.SaveError, match="Input/output error"):
        lora.merge_files(adapter, base, output, overwrite=True)
    assert contents(output) == before
    assert not (tmp_path / ".merged.new").exists()


@pytest.mark.slow
def test_kills_at_random_moments_leave_a_whole_model_or_none(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    output = tmp_path / "merged"
    arguments = ["merge", adapter, "--base", base, "--output", output, "--overwrite"]
    command = [sys.executable, "-m", "lorakit", *map(str, arguments)]
    lora.merge_files(adapter, base, output)
    expected = {
        name: load_file(output / name) for name in contents(output) if "safet" in name[-12:]
    }
    draw = random.Random(0)
    for _ in range(12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / ".merged.new").exists():
            time.sleep(0.002)
        time.sleep(draw.random() * 0.2)
        process.kill()
        process.wait()
        assert not output.exists() or set(contents(output)) >= expected.keys()
    subprocess.run(command, check=True, capture_output=True)
    for name, tensors in expected.items():
        found = load_file(output / name)
        assert all((found[key] == tensor).all() for key, tensor in tensors.items())
