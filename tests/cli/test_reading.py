"""How a file was read is said where its name does not say it, by each command that reads one."""

from __future__ import annotations

import pytest

SAID = "was read with ; between the cells"


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "new.csv"
    rows = "".join(f"it is {i}, really;{'good' if i % 2 else 'bad'}\n" for i in range(12))
    path.write_text(f"text;label\n{rows}")
    return path


def test_how_a_file_was_read_is_said(run, ratings, small_bert, tmp_path):
    made = tmp_path / "run"
    settings = [f"--set=training.{name}" for name in ("max_steps=1", "check=off", "dtype=fp32")]
    code, out, err = run("train", "--base", small_bert, "--data", ratings, "--output", made,
                         "--set=method=head", *settings)  # fmt: skip
    assert code == 0, err
    assert f"{ratings} {SAID}" in out
    for command, *arguments in (("predict", "--output", tmp_path / "out.csv"), ("evaluate",)):
        code, out, err = run(command, made, "--data", ratings, *arguments)
        assert code == 0, err
        assert f"{ratings} {SAID}" in err
        code, out, err = run(command, made, "--data", ratings, *arguments, "--json",
                             *(["--overwrite"] if arguments else []))  # fmt: skip
        assert code == 0, err
        assert SAID not in out + err
