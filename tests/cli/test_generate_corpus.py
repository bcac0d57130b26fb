"""`generate` with the files of a corpus, on a tiny GPT-2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel

import lorakit as lora
from tests.training.tiny_gpt2 import save_e2e, save_gpt2

FEW = ("--num-beams", 2, "--max-new-tokens", 6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"), spread=0.5)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = GPT2LMHeadModel.from_pretrained(base)
    slices = {"c_attn": [True, False, True]}
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["c_attn"], slices=slices))
    return lora.save_adapter(model, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_e2e(tmp_path_factory.mktemp("data") / "test.csv", 6)


def test_a_corpus_gives_one_text_an_input_with_its_references(run, base, adapter, data, tmp_path):
    output = tmp_path / "texts.jsonl"
    code, out, err = run(
        "generate", adapter, "--base", base, "--task", "e2e", "--data", data,
        "--output", output, *FEW,
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    inputs = {row["input"] for row in rows}
    assert len(inputs) == len(rows) < 12
    assert sum(len(row["references"]) for row in rows) == 12
    assert f"{len(rows)} rows with their completions" in out
    assert list(tmp_path.iterdir()) == [output]
    prompt = rows[0]["input"]
    code, out, err = run(
        "generate", adapter, "--base", base, "--task", "e2e", "--prompt", prompt, "--json", *FEW
    )
    assert code == 0, err
    assert json.loads(out)["generated"] == [rows[0]["prediction"]]


def test_a_corpus_file_of_another_kind_is_refused(run, base, adapter, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("prompt,completion\na,b\n")
    code, _, err = run("generate", adapter, "--base", base, "--task", "e2e", "--data", file)
    assert code == 1
    assert "no column mr" in err


def test_inputs_need_no_references(run, base, adapter, tmp_path):
    file, output = tmp_path / "rows.csv", tmp_path / "texts.jsonl"
    file.write_text('mr\n"name[Cocum]"\n"name[Zizzi]"\n')
    where = ["--data", file, "--output", output, "--num-beams", "2", "--max-new-tokens", "3"]
    code, _, err = run("generate", adapter, "--base", base, "--task", "e2e", *where)
    assert code == 0, err
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["input"] for row in rows] == ["name : Cocum", "name : Zizzi"]
    assert all(set(row) == {"input", "prediction"} for row in rows)


def test_test_rows_are_a_runs(run, base, adapter, tmp_path):
    code, _, err = run(
        "generate", adapter, "--base", base, "--task", "e2e", "--output", tmp_path / "a.jsonl"
    )
    assert code == 1
    assert "is an adapter, and its task e2e has no test set of its own; pass --data FILE" in err


def test_beams_that_are_drawn_are_refused(run, adapter):
    code, _, err = run("generate", adapter, "--prompt", "a", "--num-beams", 2, "--temperature", 1)
    assert code == 1
    assert "beam search does not sample" in err
