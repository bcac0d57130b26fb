"""`lorakit generate` with several adapters: prompts of each, and of the base alone, together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.many.files import write_rows
from tests.inference.many.languages import save_llama, save_writers

PROMPTS = {"legal": "w1 w2 w3 w4 w5 w6", "": "w7", "dora": "w8 w9 w10", "poems": "w21"}


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = save_llama(tmp_path_factory.mktemp("llama"))
    return save_writers(base, tmp_path_factory.mktemp("writers"))


@pytest.fixture
def adapters(writers: dict[str, str]) -> list[str]:
    return [part for name, path in writers.items() for part in ("--adapter", f"{name}={path}")]


@pytest.mark.parametrize("beams", [1, 3])
def test_each_row_is_completed_as_by_its_adapter_alone(run, writers, adapters, tmp_path, beams):
    rows = [{"adapter": name, "prompt": prompt} for name, prompt in PROMPTS.items()]
    data, output = write_rows(tmp_path / "m.jsonl", rows), tmp_path / "out.jsonl"
    how = ("--max-new-tokens", 6, "--num-beams", beams)
    code, out, err = run("generate", *adapters, "--data", data, "--output", output, *how)
    assert code == 0, err
    assert out == f"{output}: 4 rows with their completions\n"
    found = {row["adapter"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert [*found] == [*PROMPTS]
    for name, path in writers.items():
        _, alone, _ = run("generate", path, "--prompt", PROMPTS[name], *how, "--json")
        assert [found[name]["prediction"]] == json.loads(alone)["generated"]
    assert not [*Path(tmp_path).glob(".*")]


def test_a_prompt_is_completed_by_each_adapter(run, writers, adapters):
    code, out, err = run("generate", *adapters, "--prompt", "w8 w9", "--max-new-tokens", 4)
    assert code == 0, err
    lines = (part.partition(":") for part in out.strip().split("\n\n"))
    texts = {name: text.strip() for name, _, text in lines}
    assert [*texts] == [*writers]
    _, out, _ = run("generate", *adapters, "--prompt", "w8 w9", "--max-new-tokens", 4, "--json")
    found = json.loads(out)
    assert found["adapters"] == writers
    assert found["generated"] == [{"adapter": name, "text": text} for name, text in texts.items()]
