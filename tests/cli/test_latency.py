"""`lorakit latency`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import BertConfig


@pytest.fixture
def model(tmp_path: Path) -> Path:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertConfig(vocab_size=11, intermediate_size=16, **sizes).save_pretrained(tmp_path)
    return tmp_path


def test_latency_prints_a_table_and_says_what_it_measures(run, model):
    options = ("--methods", "lora", "--batch", "2,1", "--length", "4", "--seconds", "0.01")
    code, out, err = run("latency", model, *options)
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["batch", "length", "candidate"]
    assert len(out.splitlines()) == 2 + 2 * 5
    assert "batch 1, length 4: 5 candidates" in err


def test_latency_takes_settings_of_methods_and_prints_json(run, model):
    sizes = ("--batch", "1", "--length", "4", "--seconds", "0.01", "--rounds", "2")
    given = ("--methods", "lora", "--set", "lora.r=1", "--set", "lora.target_modules=[query]")
    code, out, _ = run("latency", model, *sizes, *given, "--json")
    assert code == 0
    table = json.loads(out)
    assert table["parameters"]["LoRA, merged"] == 2 * 8
    assert {cell["candidate"] for cell in table["cells"]} == {*table["parameters"]}
    assert {"median", "low", "high"} == {*table["cells"][0]["slowdown"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "lorra"), "did you mean 'lora'?"),
        (("--batch", "one"), "--batch is 'one'; it takes whole numbers, such as 1,16"),
        (("--length", "0"), "length is 0; it must be at least 1"),
        (("--methods", "bitfit", "--set", "lora.r=4"), "unknown setting lora"),
    ],
)
def test_latency_names_what_is_wrong(run, model, options, message):
    code, _, err = run("latency", model, *options)
    assert code == 1
    assert message in err


def test_latency_writes_a_page_and_replaces_none(run, model, tmp_path):
    sizes = ("--batch", "1", "--length", "4", "--seconds", "0.01", "--rounds", "2")
    page = tmp_path / "latency.html"
    command = ("latency", model, *sizes, "--methods", "bitfit", "--html", page)
    assert run(*command)[0] == 0
    assert "Latency of BertModel" in page.read_text()
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert "latency.html exists already" in err
    assert run(*command, "--overwrite")[0] == 0
