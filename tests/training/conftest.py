"""Tiny bases and data that many tests of a run share; they are only read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lorakit.training import step_trainer
from lorakit.training.compilation import Compilation
from tests.training import tiny


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="session")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_completions(tmp_path_factory.mktemp("data") / "completions.csv")


@pytest.fixture(autouse=True)
def quiet_transformers() -> Iterator[None]:
    """As the commands have it: lorakit reports what matters itself."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield
    transformers.logging.set_verbosity(before)
    transformers.logging.enable_progress_bar()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For models of this size threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Sets what compiles; torch's own inductor takes seconds for each function."""

    def choose(name: Any) -> None:
        monkeypatch.setattr(step_trainer, "Compilation", partial(Compilation, backend=name))

    choose("eager")
    return choose
