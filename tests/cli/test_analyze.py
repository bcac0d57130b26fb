"""`lorakit analyze`: adapters, runs, bases, pages, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, write


def adapted(base: Path, directory: Path, seed: int = 0, **settings: object) -> Path:
    """An adapter whose update is not zero."""
    torch.manual_seed(seed)
    model = AutoModel.from_pretrained(base)
    values = {"r": 2, "target_modules": ["query", "value"], "init_lora_weights": False} | settings
    lora.inject(model, lora.LoraConfig(**values))
    return lora.save_adapter(model, directory)


@pytest.fixture(scope="module")
def adapter(small_bert, tmp_path_factory) -> Path:
    return adapted(small_bert, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def larger(small_bert, tmp_path_factory) -> Path:
    return adapted(small_bert, tmp_path_factory.mktemp("larger"), seed=1, r=4)


def test_analyze_shows_the_spectrum_of_each_module(run, adapter):
    code, out, _ = run("analyze", adapter)
    assert code == 0
    assert "Updates dW of 2 modules" in out
    (row,) = (line.split() for line in out.splitlines() if "query" in line)
    assert row[:5] == ["encoder.layer.0.attention.self.query", "32", "x", "32", "2"]
    assert "Base:" not in out


def test_analyze_json_is_the_analysis(run, adapter, larger, small_bert):
    code, out, _ = run("analyze", adapter, "--against", larger, "--base", small_bert, "--json")
    assert code == 0
    found = json.loads(out)
    query = found["matrices"][0]
    assert query["name"] == "encoder.layer.0.attention.self.query"
    model = AutoModel.from_pretrained(small_bert)
    lora.load_adapter(model, adapter)
    layer = model.get_submodule(query["name"])
    dense, weight = layer.delta_weight().detach().double(), layer.weight.detach().double()
    u, values, vt = torch.linalg.svd(dense)
    assert query["spectrum"]["singular_values"] == pytest.approx(values[:2].tolist(), rel=1e-5)
    inner = float((u[:, :2].t() @ weight @ vt[:2].t()).norm())
    assert query["projection"]["on_update"] == pytest.approx(inner, rel=1e-5)
    assert query["projection"]["amplification"] == pytest.approx(
        float(dense.norm()) / inner, rel=1e-5
    )
    (compared,) = found["comparisons"]
    assert compared["other"] == str(larger)
    assert [
        len(compared["similarities"][0]["phi"]),
        len(compared["similarities"][0]["phi"][0]),
    ] == [
        2,
        4,
    ]


def test_analyze_writes_a_page_once(run, adapter, tmp_path):
    page = tmp_path / "analysis.html"
    assert run("analyze", adapter, "--html", page)[0] == 0
    assert page.read_text("utf-8").startswith("<!doctype html>")
    code, out, err = run("analyze", adapter, "--html", page)
    assert (code, out) == (1, "")
    assert "exists already" in err
    assert run("analyze", adapter, "--html", page, "--overwrite")[0] == 0


def test_analyze_looks_at_the_modules_that_are_named(run, adapter):
    code, out, _ = run("analyze", adapter, "--modules", "value", "--json")
    assert code == 0
    names = [matrix["name"] for matrix in json.loads(out)["matrices"]]
    assert names == ["encoder.layer.0.attention.self.value"]
    code, _, err = run("analyze", adapter, "--modules", "values")
    assert code == 1
    assert "values (did you mean 'value'?)" in err


def test_analyze_lists_modules_that_do_not_match(run, adapter, small_bert, tmp_path):
    other = adapted(small_bert, tmp_path / "other", target_modules=["query", "key"])
    code, out, err = run("analyze", adapter, "--against", other)
    assert (code, out) == (1, "")
    assert "encoder.layer.0.attention.self.value is not in it" in err
    assert "encoder.layer.0.attention.self.key is in it alone" in err
    assert run("analyze", adapter, "--against", other, "--modules", "query")[0] == 0


def test_analyze_of_dora_asks_for_the_base(run, small_bert, tmp_path):
    dora = adapted(small_bert, tmp_path / "dora", use_dora=True)
    code, _, err = run("analyze", dora)
    assert code == 1
    assert "depends on the base's weight: DoRA" in err
    assert "--base MODEL" in err
    assert run("analyze", dora, "--base", small_bert)[0] == 0


def test_analyze_of_a_loralib_file_asks_for_the_base_and_reads_it_there(
    run, adapter, small_bert, tmp_path
):
    model = AutoModel.from_pretrained(small_bert)
    lora.load_adapter(model, adapter)
    file = tmp_path / "lora.pt"
    torch.save(lora.lora_state_dict(model), file)
    code, _, err = run("analyze", file, "--lora-alpha", 8)
    assert code == 1
    assert "is a layer of a type that the file does not say" in err
    code, out, _ = run("analyze", file, "--lora-alpha", 8, "--base", small_bert, "--json")
    assert code == 0
    own = json.loads(run("analyze", adapter, "--base", small_bert, "--json")[1])
    assert json.loads(out)["matrices"] == own["matrices"]


def test_analyze_takes_alpha_for_the_files_that_lack_it(run, adapter, larger, small_bert, tmp_path):
    model = AutoModel.from_pretrained(small_bert)
    lora.load_adapter(model, larger)
    torch.save(lora.lora_state_dict(model), tmp_path / "lora.pt")
    both = ("analyze", adapter, "--against", tmp_path / "lora.pt", "--base", small_bert)
    assert run(*both, "--lora-alpha", 3)[0] == 0
    code, _, err = run(*both)
    assert code == 1
    assert "does not store lora_alpha" in err
    code, _, err = run("analyze", adapter, "--lora-alpha", 3)
    assert code == 1
    assert "lora_alpha=3 was passed, but the file says" in err


def test_analyze_refuses_another_method_and_says_what_can_be_analysed(run, tmp_path):
    write(AdapterBundle(method="full", trained={"w": torch.ones(2)}), tmp_path / "full")
    code, _, err = run("analyze", tmp_path / "full")
    assert code == 1
    assert "was trained with the method full" in err
    assert "those of LoRA, DoRA, LoRA with a bias, trainable tokens are" in err


def test_analyze_refuses_a_base_that_does_not_fit(run, adapter, minilm):
    code, out, err = run("analyze", adapter, "--base", minilm)
    assert (code, out) == (1, "")
    assert "size mismatch" in err
