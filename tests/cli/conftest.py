"""Running commands as a user does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModel, AutoTokenizer

from lorakit.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `lorakit` with these arguments; (exit code, standard output, standard error)."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lorakit", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.fixture(scope="session")
def small_bert(minilm, tmp_path_factory) -> Path:
    """A BERT of one layer with random weights, and the real one's tokenizer."""
    directory = tmp_path_factory.mktemp("bert")
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64}
    config = AutoConfig.from_pretrained(minilm, num_attention_heads=2, **sizes)
    AutoModel.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(directory)
    return directory
