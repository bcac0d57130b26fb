"""Running commands as a user does."""

from __future__ import annotations

import sys

import pytest

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
