"""A base and adapters that the tests here share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inference.many.files import save_all, save_bert
from tests.inference.many.languages import save_llama, save_writers


@pytest.fixture(scope="package")
def bert(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(minilm, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="package")
def sources(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Adapters of four tasks, by name."""
    return save_all(bert, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="package")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="package")
def writers(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Adapters of a language model, by name."""
    return save_writers(llama, tmp_path_factory.mktemp("writers"))
