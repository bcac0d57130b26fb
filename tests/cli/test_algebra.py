"""`lorakit combine`, `resize`, `extract` and `subtract`: files in, files out, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.runs.directory import TASK_FILE
from lorakit.variants import LinearSite
from tests.algebra.adapters import adapter, bundle, defined, relative, wide
from tests.checkpoint.bundles import assert_equal_tensors


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    torch.manual_seed(0)
    site = LinearSite(20, 20)
    return {
        name: write(
            bundle({"a.q": adapter(site, rank), "a.v": adapter(site, rank)}), tmp_path / name
        )
        for name, rank in {"legal": 4, "medical": 2}.items()
    }


def test_combine_writes_the_sum_and_its_error(run, files, tmp_path):
    terms = [f"{files['legal']}=0.7", f"{files['medical']}=-0.3"]
    code, out, _ = run("combine", *terms, "--output", tmp_path / "both", "--rank", 3, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["ranks"] == {"a.q": 3, "a.v": 3}
    assert report["parameters"] == 2 * 3 * 40
    both = read(tmp_path / "both")
    given = [(read(files["legal"]), 0.7), (read(files["medical"]), -0.3)]
    for name, value in both.adapters.items():
        error = relative(wide(value), defined(given, name))
        assert report["error"]["modules"][name] == pytest.approx(error, rel=1e-4)
    code, out, _ = run("combine", *terms, "--output", tmp_path / "exact")
    head, _, error = out.splitlines()[0].rpartition(" ")
    assert code == 0
    assert head == f"{tmp_path / 'exact'}: 480 parameters, 2 modules, relative error"
    assert float(error) < 1e-6


def test_refused_combination_has_the_adapters_own_names(run, files, tmp_path):
    other = write(bundle({"a.q": adapter(LinearSite(9, 20), 2)}), tmp_path / "other")
    terms = [f"{files['legal']}=0.7", f"{other}=0.3"]
    code, _, message = run("combine", *terms, "--output", tmp_path / "both")
    assert code == 1
    sizes = f"linear (20, 20) in {files['legal']}, linear (20, 9) in {other}"
    assert f"a.q: sizes differ: {sizes}" in message


def test_combine_has_the_methods(run, files, tmp_path):
    terms = [f"{files['legal']}=1", f"{files['medical']}=1"]
    options = ["--method", "dare_ties", "--density", 0.5, "--seed", 3, "--rank", 5]
    code, _, _ = run("combine", *terms, "--output", tmp_path / "both", *options)
    assert code == 0
    given = [(read(files[name]), 1.0) for name in ("legal", "medical")]
    expected = lora.combine(given, rank=5, method="dare_ties", density=0.5, seed=3).bundle
    assert_equal_tensors(read(tmp_path / "both").tensors, expected.tensors)


def test_resize_writes_ranks_by_energy(run, files, tmp_path):
    code, out, _ = run("resize", files["legal"], "--energy", 0.7, "--output", tmp_path / "small")
    assert code == 0
    assert "relative error 0." in out
    expected = lora.resize(read(files["legal"]), energy=0.7).bundle
    assert_equal_tensors(read(tmp_path / "small").tensors, expected.tensors)


def test_what_stands_beside_an_adapter_comes_along(run, files, tmp_path):
    for path in files.values():
        (path / TASK_FILE).write_text("{}")
        (path / "tokenizer.json").write_text(path.name)
    target = tmp_path / "new"
    assert run("resize", files["legal"], "--rank", 1, "--output", target)[0] == 0
    assert (target / "tokenizer.json").read_text() == "legal"
    terms = [f"{path}=0.5" for path in files.values()]
    assert run("combine", *terms, "--output", target, "--overwrite")[0] == 0
    assert (target / TASK_FILE).read_text() == "{}"
    assert not (target / "tokenizer.json").exists()  # they have two, and this one is neither's


@pytest.mark.parametrize("command", ["combine", "resize"])
def test_model_is_not_replaced_by_an_adapter(run, files, tmp_path, command):
    (tmp_path / "base").mkdir()
    names = ("model-00001-of-00001.safetensors", "tokenizer.json", "config.json")
    for name in names:
        (tmp_path / "base" / name).write_text(name)
    path = files["legal"]
    given = {"combine": [f"{path}=1"], "resize": [path, "--rank", 1]}[command]
    code, _, err = run(command, *given, "--output", tmp_path / "base", "--overwrite")
    assert (code, "holds the weights of a model and no adapter" in err) == (1, True)
    assert {f.name: f.read_text() for f in (tmp_path / "base").iterdir()} == {n: n for n in names}


def test_an_adapter_can_be_resized_in_its_place(run, files):
    path = files["legal"]
    (path / "tokenizer.json").write_text("{}")
    assert run("resize", path, "--rank", 1, "--output", path)[0] == 1
    assert run("resize", path, "--rank", 1, "--output", path, "--overwrite")[0] == 0
    assert read(path).config.r == 1
    assert (path / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("command", ["combine", "resize"])
def test_nothing_is_written_over_what_is_there(run, files, tmp_path, command):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    name = f"{files['legal']}=1" if command == "combine" else files["legal"]
    code, out, err = run(command, name, "--rank", 2, "--output", tmp_path / "notes", "--json")
    assert code == 1
    assert "notes exists already; pass --overwrite to replace the adapter there." in err
    assert json.loads(out)["error"] == err.strip()
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["mine.txt"]


def test_bad_input_is_one_message_before_anything_is_written(run, files, tmp_path):
    target = tmp_path / "new"
    code, _, err = run("combine", f"{files['legal']}=x", "--output", target)
    assert code == 1
    assert "A weight is written as ADAPTER=WEIGHT" in err
    for options, message in (
        (["--rank", 2, "--energy", 0.5], "pass rank or energy, one of the two"),
        (["--method", "tie"], "the method 'tie' is unknown"),
        (["--density", 0.5], "density has no effect with the method linear"),
    ):
        code, _, err = run("combine", f"{files['legal']}=1", "--output", target, *options)
        assert (code, message in err) == (1, True), err
    code, _, err = run("resize", files["legal"], "--output", target)
    assert (code, "pass rank or energy" in err) == (1, True)
    code, _, err = run("resize", tmp_path / "nowhere", "--rank", 2, "--output", target)
    assert (code, "nowhere" in err) == (1, True)
    assert not target.exists()


def llama(path: Path, changed: str) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 20}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=1))
    for name, parameter in model.named_parameters():
        if changed and changed in name:
            parameter.data += torch.randn_like(parameter) * 0.1
    model.save_pretrained(path)
    return path


def test_extract_writes_the_difference(run, tmp_path):
    base, tuned = llama(tmp_path / "base", ""), llama(tmp_path / "tuned", "q_proj")
    (tuned / "tokenizer.json").write_text("{}")
    target = tmp_path / "adapter"
    code, out, _ = run("extract", base, tuned, "--rank", 4, "--output", target, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["ranks"] == {"model.layers.0.self_attn.q_proj": 4}
    assert report["error"]["whole"] > 0.1
    assert (target / "tokenizer.json").is_file()
    assert read(target).base_model == str(base)


def test_extract_says_what_has_no_low_rank_and_writes_nothing(run, tmp_path):
    base, tuned = llama(tmp_path / "base", ""), llama(tmp_path / "tuned", "norm")
    target = tmp_path / "adapter"
    code, _, err = run("extract", base, tuned, "--rank", 4, "--output", target)
    assert code == 1
    assert "model.norm.weight has changed" in err
    assert "--keep-rest" in err
    assert not target.exists()
    assert run("extract", base, tuned, "--rank", 4, "--keep-rest", "--output", target)[0] == 0
    assert "model.norm" in read(target).config.modules_to_save


def test_subtract_takes_off_what_was_merged(run, tmp_path):
    base = llama(tmp_path / "base", "")
    model = LlamaForCausalLM.from_pretrained(base)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapter = lora.save_adapter(model, tmp_path / "adapter")
    merged, off = tmp_path / "merged", tmp_path / "off"
    assert run("merge", adapter, "--base", base, "--output", merged)[0] == 0
    code, out, _ = run("subtract", merged, adapter, "--output", off)
    assert code == 0
    assert "rounding left" in out.splitlines()[-1]
    state = LlamaForCausalLM.from_pretrained(off).state_dict()
    for name, tensor in LlamaForCausalLM.from_pretrained(base).state_dict().items():
        torch.testing.assert_close(state[name], tensor)
    code, _, err = run("subtract", merged, adapter, "--output", off)
    assert (code, "exists already" in err) == (1, True)
    code, out, _ = run("subtract", merged, adapter, "--output", off, "--overwrite", "--json")
    assert (code, json.loads(out)["total_rounding"] < 1e-5) == (0, True)


@pytest.mark.parametrize("command", ["combine", "resize", "extract", "subtract"])
def test_help_has_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"lorakit {command} " in out.replace("\n", " ")
