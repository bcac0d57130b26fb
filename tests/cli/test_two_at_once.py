"""Two commands into one place: the second says who is there, and exits with 1."""

from __future__ import annotations

import os

from lorakit.locks import exclusive
from tests.cli.files import write_csv


def test_train_into_a_directory_that_is_being_written(run, small_bert, tmp_path):
    rows = [("text", "label"), *[("a joy", "good"), ("a bore", "bad")] * 8]
    data, output = write_csv(tmp_path / "data.csv", rows), tmp_path / "run"
    with exclusive(output):
        code, _, err = run("train", "--base", small_bert, "--data", data, "--output", output)
    assert code == 1
    assert err.startswith(f"{output} is being written by process {os.getpid()} on ")
