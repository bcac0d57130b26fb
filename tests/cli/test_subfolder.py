"""`--subfolder`, wherever an adapter is named: in a directory, and in a repository on the Hub."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.errors import ConfigError, FormatError
from lorakit.inference.many import read_many
from lorakit.inference.session import LoadOptions
from lorakit.runs.adapter_place import place_of
from tests.checkpoint.bundles import assert_equal_tensors
from tests.inference.many.files import TASKS, save_trained, write_rows
from tests.training import tiny_chat

Run = Callable[..., tuple[int, str, str]]
HUB_ID, SUBFOLDER = "someone/adapters", "old/mood"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama, and a directory with an adapter of it in a folder."""
    base = tiny_chat.save_llama(tmp_path_factory.mktemp("llama"))
    model = AutoModelForCausalLM.from_pretrained(base)
    targets = ["q_proj", "v_proj"]
    lora.inject(model, lora.LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    directory = tmp_path_factory.mktemp("repository")
    lora.save_adapter(model, directory / SUBFOLDER)
    tiny_chat.tokenizer().save_pretrained(directory / SUBFOLDER)
    (directory / "README.md").write_text("Adapters.")
    return base, directory


@pytest.fixture(params=["directory", "hub"])
def source(
    request: pytest.FixtureRequest, places: tuple[Path, Path], monkeypatch, tmp_path: Path
) -> str:
    """The directory, or the repository of the same files."""
    directory = places[1]
    if request.param == "directory":
        return str(directory)

    def snapshot_download(hub_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert hub_id == HUB_ID
        names = [str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()]
        for name in names:
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(directory / name, snapshot / name)
        snapshot.mkdir(exist_ok=True)
        return str(snapshot)

    snapshot = tmp_path / "snapshot"
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return HUB_ID


def test_inspect_has_a_subfolder(run: Run, source, places) -> None:
    _, expected, _ = run("inspect", places[1] / SUBFOLDER, "--json")
    assert run("inspect", source, "--subfolder", SUBFOLDER, "--json")[1] == expected
    code, out, err = run("inspect", source, "--subfolder", SUBFOLDER, "--base", places[0], "--json")
    assert (code, json.loads(out)["fits"]) == (0, str(places[0])), err


@pytest.mark.parametrize(
    "command", [("resize", "--rank", 4), ("combine",), ("convert", "--to", "peft")]
)
def test_new_adapter_is_made_of_one_in_a_subfolder(
    run: Run, source, places, tmp_path, command
) -> None:
    name, *options = command
    output = tmp_path / "new"
    target = [output] if name == "convert" else ["--output", output]
    code, _, err = run(name, source, *target, *options, "--subfolder", SUBFOLDER)
    assert code == 0, err
    assert_equal_tensors(read(output).tensors, read(places[1] / SUBFOLDER).tensors)
    assert (output / "tokenizer.json").is_file() == (name != "convert")


def test_merge_and_subtract_have_a_subfolder(run: Run, source, places, tmp_path) -> None:
    base, merged = places[0], tmp_path / "merged"
    code, out, err = run(
        "merge", source, "--base", base, "--output", merged, "--subfolder", SUBFOLDER, "--json"
    )
    assert code == 0, err
    ((named, _),) = json.loads(out)["adapters"]
    assert named == f"{source}/{SUBFOLDER}"
    assert (merged / "tokenizer.json").is_file()
    code, _, err = run(
        "subtract", merged, source, "--output", tmp_path / "off", "--subfolder", SUBFOLDER
    )
    assert code == 0, err


def test_python_functions_beside_them_have_a_subfolder(source, places, tmp_path) -> None:
    base, inside = places[0], {"subfolder": SUBFOLDER}
    lora.merge_files(source, base, tmp_path / "merged", **inside)
    lora.subtract(tmp_path / "merged", source, tmp_path / "off", **inside)
    loaded = lora.AdapterSet(AutoModelForCausalLM.from_pretrained(base)).load("a", source, **inside)
    assert loaded.base_verified


def test_generate_and_chat_have_a_subfolder(run: Run, source, places, monkeypatch) -> None:
    options = ["--base", places[0], "--max-new-tokens", 3, "--json"]
    _, expected, _ = run("generate", places[1] / SUBFOLDER, "--prompt", "the film", *options)
    options += ["--subfolder", SUBFOLDER]
    code, out, err = run("generate", source, "--prompt", "the film", *options)
    assert code == 0, err
    found = json.loads(out)
    assert found.pop("source") == f"{source}/{SUBFOLDER}"
    assert found == {k: v for k, v in json.loads(expected).items() if k != "source"}
    monkeypatch.setattr(sys, "stdin", io.StringIO("the film\n"))
    code, out, err = run("chat", source, *options)
    assert (code, len(json.loads(out)["messages"])) == (0, 2), err


def test_evaluate_and_analyze_have_a_subfolder(run: Run, source, places, tmp_path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"text": "the film good fine"}\n')
    options = ["--task", "language_modeling", "--base", places[0], "--data", data, "--json"]
    _, expected, _ = run("evaluate", places[1] / SUBFOLDER, *options)
    code, out, err = run("evaluate", source, *options, "--subfolder", SUBFOLDER)
    assert code == 0, err
    assert json.loads(out)["metrics"] == json.loads(expected)["metrics"]
    code, _, err = run("analyze", source, "--subfolder", SUBFOLDER)
    assert code == 0, err


def test_predict_has_a_subfolder_for_one_and_for_several(
    run: Run, small_bert: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        task, config = TASKS["mood"], {"r": 2, "target_modules": ["query"]}
        save_trained(small_bert, tmp_path / name / SUBFOLDER, task, **config)
    text = ["--text", "a joy", "--subfolder", SUBFOLDER, "--json"]
    code, out, err = run("predict", tmp_path / "a", *text)
    assert code == 0, err
    (label,) = json.loads(out)["predictions"]
    both = [f"--adapter={name}={tmp_path / name}" for name in ("a", "b")]
    code, out, err = run("predict", *both, *text)
    assert code == 0, err
    assert [found["prediction"] for found in json.loads(out)["predictions"]] == [label, label]
    assert json.loads(out)["adapters"]["a"] == str(tmp_path / "a" / SUBFOLDER)
    rows = write_rows(tmp_path / "rows.jsonl", [{"adapter": "a", "text": "fine", "label": "bad"}])
    code, out, err = run("evaluate", *both, "--data", rows, "--subfolder", SUBFOLDER)
    assert code == 0, err


def test_subfolder_that_is_none_is_named(source) -> None:
    with pytest.raises(FormatError, match=f"{source} has no directory new"):
        place_of(source, subfolder="new").read()
    with pytest.raises(ConfigError, match="is no directory within another one"):
        place_of(source, subfolder="../mood").read()
    with pytest.raises(ConfigError, match=f"{source} has no directory new"):
        read_many({"a": source}, LoadOptions(subfolder="new"))


def test_folder_of_adapters_is_no_data_and_says_what_it_has(run: Run, source) -> None:
    code, out, err = run("inspect", source)
    assert (code, out) == (1, "")
    assert "is not an adapter in a known format" in err
    hint = "where it is in a folder of a repository, name that with subfolder (--subfolder)"
    if source != HUB_ID:
        hint = f"of those in {SUBFOLDER}, name one with subfolder (--subfolder)"
    assert f"; {hint}" in err


def test_subfolder_of_a_run_may_be_its_adapter_or_another_run(tmp_path: Path) -> None:
    run = tmp_path / "sweep" / "seed-1"
    (run / "adapter").mkdir(parents=True)
    (run / "recipe.yaml").write_text("base: b\noutput: o\ndata: {train: d.csv}\n")
    alone = place_of(run, subfolder="adapter")
    assert (alone.path, alone.run) == (str(run / "adapter"), None)
    nested = place_of(tmp_path / "sweep", subfolder="seed-1")
    assert (nested.source, nested.path) == (str(run), str(run / "adapter"))
    assert nested.run is not None
