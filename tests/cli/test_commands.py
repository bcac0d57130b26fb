"""The command line as a user meets it: output, JSON, exit codes, messages."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, write
from lorakit.cli import main

THOSE = "(the adapted weights are those that it was trained on)"


@pytest.fixture(scope="module")
def adapter(minilm: Path, tmp_path_factory) -> Path:
    """An adapter of MiniLM whose update is not zero."""
    model = AutoModel.from_pretrained(minilm)
    config = lora.LoraConfig(
        r=4, lora_alpha=8, target_modules=["query", "value"], init_lora_weights=False
    )
    lora.inject(model, config)
    return lora.save_adapter(model, tmp_path_factory.mktemp("adapter"))


def test_targets_lists_layers_without_reading_weights(run, minilm):
    code, out, _ = run("targets", minilm, "--rank", 4)
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("query"))
    assert row.split() == [
        "query", "encoder.layer.*.attention.self.query", "6", "Linear", "384", "384", "18,432",
    ]  # fmt: skip


def test_targets_json_is_the_report(run, minilm):
    code, out, _ = run("targets", minilm, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["r"] == 8
    assert sum(group["count"] for group in report["groups"]) == 40


def test_inspect_says_what_the_file_holds(run, adapter):
    code, out, _ = run("inspect", adapter, "--json")
    assert code == 0
    summary = json.loads(out)
    assert (summary["r"], summary["lora_alpha"]) == (4, 8)
    assert summary["target_modules"] == ["query", "value"]
    assert summary["ranks"] == {"4": 12}
    assert summary["adapter_parameters"] == 12 * 4 * 2 * 384


def test_inspect_checks_the_base(run, adapter, minilm):
    code, out, _ = run("inspect", adapter, "--base", minilm)
    assert code == 0
    assert THOSE in out


def test_inspect_says_what_another_method_trained(run, tmp_path):
    bundle = AdapterBundle(
        method="head",
        method_config={"modules": ["classifier"]},
        trained={"classifier.weight": torch.ones(2, 8), "classifier.bias": torch.ones(2)},
        base_model="org/base",
    )
    path = write(bundle, tmp_path / "head")
    code, out, _ = run("inspect", path)
    assert code == 0
    for text in ("lorakit", "head", "modules=['classifier']", "18 in 2 tensors", "org/base"):
        assert text in out
    code, out, _ = run("inspect", path / "trained.safetensors", "--json")
    assert code == 0
    summary = json.loads(out)
    assert (summary["method"], summary["r"], summary["adapted_modules"]) == ("head", None, 0)
    assert summary["method_config"] == {"modules": ["classifier"]}


def test_merge_gives_a_plain_model_with_the_same_output(run, adapter, minilm, tmp_path):
    output = tmp_path / "merged"
    code, out, _ = run("merge", adapter, "--base", minilm, "--output", output, "--json")
    assert code == 0
    assert json.loads(out)["folded_layers"] == 12
    batch = AutoTokenizer.from_pretrained(output)(["a joy"], return_tensors="pt")
    adapted = AutoModel.from_pretrained(minilm).eval()
    lora.load_adapter(adapted, adapter)
    plain = AutoModel.from_pretrained(output).eval()
    with torch.no_grad():
        expected = adapted(**batch).last_hidden_state
        torch.testing.assert_close(plain(**batch).last_hidden_state, expected, rtol=1e-4, atol=1e-4)


def test_merge_takes_the_base_from_the_adapter(run, adapter, tmp_path):
    code, out, err = run("merge", adapter, "--output", tmp_path / "merged")
    assert (code, err) == (0, "")
    assert THOSE in out


def test_inspect_and_merge_know_dora(run, small_bert, tmp_path):
    model, x = AutoModel.from_pretrained(small_bert).eval(), torch.tensor([[2, 5, 7]])
    targets = ["query", "dense"]
    lora.inject(model, lora.LoraConfig(r=4, target_modules=targets, use_dora=True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        expected = model(x).last_hidden_state
    adapter = lora.save_adapter(model, tmp_path / "adapter")
    code, out, _ = run("inspect", adapter, "--base", small_bert)
    assert (code, "4, 8 (DoRA)" in out, THOSE in out) == (0, True, True)
    code, _, err = run("merge", adapter, "--base", small_bert, "--output", tmp_path / "merged")
    assert (code, err) == (0, "")
    plain = AutoModel.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(x).last_hidden_state, expected, rtol=1e-4, atol=1e-4)


def test_merge_refuses_an_output_that_exists(run, adapter, minilm, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    code, out, err = run("merge", adapter, "--base", minilm, "--output", tmp_path)
    assert (code, out) == (1, "")
    assert "exists already" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("targets", "/nowhere/model"), "No transformers model found at /nowhere/model: no such"),
        (("inspect", "/nowhere/adapter"), "No adapter found at /nowhere/adapter"),
        (("merge", "/nowhere/adapter", "--output", "out"), "No adapter found at"),
    ],
)
def test_a_failure_prints_one_message(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(message)
    assert "Traceback" not in err


def test_a_failure_as_json_is_an_object_with_the_error(run):
    code, out, _ = run("inspect", "/nowhere/adapter", "--json")
    assert code == 1
    assert "No adapter found at" in json.loads(out)["error"]


def test_debug_shows_the_traceback(run):
    with pytest.raises(lora.errors.FormatError):
        run("--debug", "inspect", "/nowhere/adapter")


def test_a_wrong_call_exits_with_two(run):
    code, _, err = run("inspekt")
    assert code == 2
    assert "No such command" in err


def test_version_is_the_packages(run):
    code, out, _ = run("--version")
    assert (code, out.strip()) == (0, lora.__version__)


def test_version_of_sources_that_nothing_installed_is_unknown(run, monkeypatch):
    assert lora.__version__ != "unknown"
    monkeypatch.delitem(vars(lora), "__version__")  # kept since it was first asked for

    def none(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr("importlib.metadata.version", none)
    code, out, _ = run("--version")
    assert (code, out) == (0, "unknown\n")


@pytest.mark.parametrize(
    "command",
    [
        "train", "evaluate", "predict", "generate", "chat", "score", "compare", "recipes list",
        "recipes show", "checkpoints list", "checkpoints download", "targets", "latency", "plan",
        "inspect", "merge", "push",
    ],
)  # fmt: skip
def test_help_has_an_example(run, command):
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert f"Example: lorakit {command}" in " ".join(out.split())


def test_the_help_of_generate_groups_its_options_and_states_their_defaults(run):
    code, out, _ = run("generate", "--help")
    text = " ".join(out.replace("│", " ").split())
    assert code == 0
    for panel in ("Data", "Output", "Generation settings", "Adapter and base model"):
        assert f"─ {panel} ─" in text
    for expected in (
        "Sampling temperature; 0 is greedy decoding. [default: (the recipe's, else 0)]",
        "Number of beams for beam search; 1 is no beam search. [default: (the recipe's, else 1)]",
        "n-grams of this size occur only once in a completion. [default: (the recipe's, else 0)]",
        "[default: (the recipe's, else 128)]",
    ):
        assert expected in text


def test_without_the_extra_main_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r"pip install 'lorakit\[cli\]'"):
        main()


def test_base_with_another_number_of_labels_gets_the_adapters_head(run, tmp_path):
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
    config = BertConfig(**sizes, num_attention_heads=2, num_labels=3)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "base")
    model = BertForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=2, ignore_mismatched_sizes=True
    )
    lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    path = lora.save_adapter(model, tmp_path / "adapter")
    code, out, err = run("inspect", path, "--base", tmp_path / "base")
    assert (code, err) == (0, "")
    assert THOSE in out
    code, _, err = run("merge", path, "--output", tmp_path / "merged")
    assert (code, err) == (0, "")
    merged = BertForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert torch.equal(merged.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("change", [{"hidden_size": "x"}, {"num_attention_heads": 7}], ids=str)
def test_targets_of_a_broken_config_is_one_message(run, change, tmp_path):
    BertConfig(hidden_size=16, num_attention_heads=2).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    code, out, err = run("targets", tmp_path)
    assert (code, out) == (1, "")
    assert str(tmp_path) in err
    assert "Traceback" not in err
