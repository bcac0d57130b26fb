"""A finished run as a folder for the Hub, and what is asked of the Hub to take it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import httpx2
import pytest
import torch
from huggingface_hub import HfApi, ModelCard

from lorakit.checkpoint import read
from lorakit.errors import ConfigError, FormatError, SaveError, StateError
from lorakit.inference import open_session
from lorakit.inference.session import LoadOptions
from lorakit.recipe.schema import Recipe
from lorakit.recipe.yaml_file import to_yaml
from lorakit.runs.publishing import hub_api, open_run, upload, write_folder
from lorakit.training import train
from tests.training import tiny

REPO = "user/night"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """That of a finished run that classifies."""
    place = tmp_path_factory.mktemp("classifier")
    base, data = tiny.save_encoder(place / "some-bert"), tiny.save_reviews(place / "reviews.csv")
    recipe = tiny.recipe(base, data, place / "run", training={"max_steps": 2})
    train(recipe, lambda text: None)
    return recipe


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """That of a finished run that generates."""
    place = tmp_path_factory.mktemp("writer")
    base, data = tiny.save_decoder(place / "some-gpt"), tiny.save_completions(place / "pairs.csv")
    recipe = tiny.recipe(base, data, place / "run", training={"max_steps": 2})
    train(recipe, lambda text: None)
    return recipe


@pytest.fixture
def api() -> Any:
    """huggingface_hub's client without a Hub; calls have to have the signatures of the real one."""
    client = create_autospec(HfApi, instance=True)
    commit = SimpleNamespace(commit_url="https://hub/user/night/commit/1")
    client.configure_mock(**answers(repo_exists=False, upload_folder=commit))
    return client


def answers(**values: Any) -> dict[str, Any]:
    """What these methods of a stand-in return."""
    return {f"{name}.return_value": value for name, value in values.items()}


def folder_of(recipe: Recipe, place: Path, base: str | None = None) -> Path:
    write_folder(open_run(recipe.output, REPO, base), place)
    return place


def blocks(card: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)


# --- what goes up


def test_the_folder_has_what_it_takes_to_use_the_adapter_and_no_more(writer, tmp_path):
    folder = folder_of(writer, tmp_path / "folder")
    assert {file.name for file in folder.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "generation_config.json",
        "lorakit_task.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_no_file_tells_a_local_path(classifier, tmp_path):
    folder = folder_of(classifier, tmp_path / "folder")
    place = str(Path(classifier.output).parent).encode()
    assert [file.name for file in folder.iterdir() if place in file.read_bytes()] == []


def test_the_adapter_is_the_same_and_names_the_base_that_was_given(classifier, tmp_path):
    folder = folder_of(classifier, tmp_path / "folder", base="org/some-bert")
    ours, theirs = read(Path(classifier.output) / "adapter"), read(folder)
    assert theirs.base_model == "org/some-bert"
    assert theirs.fingerprint == ours.fingerprint
    tiny.assert_same(ours.tensors, theirs.tensors)


def test_the_folder_predicts_as_the_run(classifier, tmp_path):
    folder = folder_of(classifier, tmp_path / "folder")
    options = LoadOptions(base=classifier.base)
    sessions = open_session(classifier.output), open_session(str(folder), options)
    words = sessions[0].tokenizer("the good film", return_tensors="pt")
    with torch.no_grad():
        run, shared = (session.model(**words).logits for session in sessions)
    assert torch.equal(run, shared)
    assert sessions[1].task == sessions[0].task


def test_the_card_has_metrics_data_labels_and_library(classifier, tmp_path):
    folder = folder_of(classifier, tmp_path / "folder", base="org/some-bert")
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    result = json.loads((Path(classifier.output) / "result.json").read_text())
    found = {r.metric_type: r.metric_value for r in card.data.eval_results}
    wanted = {n: round(v, 4) for n, v in result["metrics"].items() if n != "loss"}
    assert found == wanted
    assert {r.dataset_name for r in card.data.eval_results} == {"reviews.csv"}
    assert card.data.base_model == "org/some-bert"
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.tags == ["lorakit", "lora"]
    assert card.data.datasets is None
    assert card.data.license is None
    assert "Labels: `neg`, `pos`" in card.text
    assert "48 train, 12 test" in card.text


def test_a_local_base_is_said_by_its_name_and_is_no_base_model(classifier, tmp_path):
    folder = folder_of(classifier, tmp_path / "folder")
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model is None
    assert "LoRA of `some-bert`" in card.text
    assert "--base some-bert" in blocks(card.text, "console")[0]
    assert (
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    )


def test_a_data_set_of_the_hub_is_named_by_its_id(classifier, tmp_path):
    shutil.copytree(classifier.output, tmp_path / "run")
    named = replace(classifier.data, train="org/reviews:en:train")
    (tmp_path / "run/recipe.yaml").write_text(to_yaml(replace(classifier, data=named)))
    write_folder(open_run(tmp_path / "run", REPO), tmp_path / "folder")
    card = ModelCard.load(tmp_path / "folder/README.md")
    assert card.data.datasets == ["org/reviews"]
    assert {r.dataset_type for r in card.data.eval_results} == {"org/reviews"}


def test_several_sources_are_all_named_and_a_file_that_is_gone_is_no_data_set(classifier, tmp_path):
    shutil.copytree(classifier.output, tmp_path / "run")
    named = replace(classifier.data, train=("org/reviews", "data/more.csv"))
    (tmp_path / "run/recipe.yaml").write_text(to_yaml(replace(classifier, data=named)))
    write_folder(open_run(tmp_path / "run", REPO), tmp_path / "folder")
    card = ModelCard.load(tmp_path / "folder/README.md")
    assert card.data.datasets == ["org/reviews"]
    assert "Data: `org/reviews, more.csv`" in card.text


@pytest.mark.parametrize("kind", ["classifier", "writer"])
def test_the_code_of_the_card_runs_in_lorakit_and_in_peft(kind, tmp_path, monkeypatch, request):
    recipe = request.getfixturevalue(kind)
    folder_of(recipe, tmp_path / REPO)
    shutil.copytree(recipe.base, tmp_path / Path(recipe.base).name)
    monkeypatch.chdir(tmp_path)  # where the names of base and repository are directories
    code = blocks((tmp_path / REPO / "README.md").read_text(), "python")
    outputs = []
    for block in code:
        names: dict[str, Any] = {}
        exec(block, names)
        model = names["model"].eval()
        words = names["tokenizer"]("the good film", return_tensors="pt")
        with torch.no_grad():
            outputs.append(model(input_ids=words["input_ids"]).logits)
    ours, pefts = outputs
    torch.testing.assert_close(ours, pefts)
    expected = open_session(recipe.output)
    words = expected.tokenizer("the good film", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(ours, expected.model(input_ids=words["input_ids"]).logits)


def test_a_run_of_another_method_is_shared_in_lorakits_format(head_alone, tmp_path):
    folder = folder_of(head_alone, tmp_path / "folder")
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "lorakit"
    assert len(blocks(card.text, "python")) == 1
    assert read(folder).method == "head"


@pytest.fixture(scope="module")
def head_alone(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    place = tmp_path_factory.mktemp("head")
    base, data = tiny.save_encoder(place / "some-bert"), tiny.save_reviews(place / "reviews.csv")
    recipe = tiny.recipe(base, data, place / "run", method="head", training={"max_steps": 2})
    train(recipe, lambda text: None)
    return recipe


# --- what is refused before anything is written


@pytest.mark.parametrize("repo", ["night", "user/night/2", "user/ni ght"])
def test_a_repository_without_a_user_is_refused(classifier, repo):
    with pytest.raises(ConfigError, match="must be USER/NAME"):
        open_run(classifier.output, repo)


def test_a_base_that_is_local_is_no_hub_id(classifier):
    with pytest.raises(ConfigError, match="must be the id of a model on the Hub"):
        open_run(classifier.output, REPO, base=classifier.base)


def test_a_run_that_is_not_finished_is_refused(classifier, tmp_path):
    shutil.copytree(classifier.output, tmp_path / "run")
    (tmp_path / "run/result.json").unlink()
    with pytest.raises(StateError, match="is an unfinished run"):
        open_run(tmp_path / "run", REPO)
    shutil.rmtree(tmp_path / "run/adapter")
    with pytest.raises(StateError, match="is an unfinished run"):
        open_run(tmp_path / "run", REPO)


def test_a_directory_that_is_no_run_is_refused(classifier):
    with pytest.raises(FormatError, match="is not a run directory"):
        open_run(Path(classifier.output) / "adapter", REPO)


def test_a_folder_that_is_not_empty_is_left_as_it_is(classifier, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SaveError, match="is not empty"):
        folder_of(classifier, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_local_path_in_a_file_is_told(classifier, tmp_path):
    shutil.copytree(classifier.output, tmp_path / "run")
    config = tmp_path / "run/adapter/tokenizer_config.json"
    settings = json.loads(config.read_text()) | {"name_or_path": classifier.base}
    config.write_text(json.dumps(settings))
    folder_of(replace(classifier, output=str(tmp_path / "run")), tmp_path / "one")
    assert "name_or_path" not in json.loads((tmp_path / "one/tokenizer_config.json").read_text())
    config.write_text(json.dumps(settings | {"vocab_dir": classifier.base}))
    with pytest.raises(SaveError, match=r"tokenizer_config\.json: /"):
        folder_of(replace(classifier, output=str(tmp_path / "run")), tmp_path / "two")


# --- the Hub


def test_a_new_repository_is_made_and_gets_the_folder(classifier, tmp_path, api):
    folder = folder_of(classifier, tmp_path / "folder")
    shared = open_run(classifier.output, REPO)
    address = upload(shared, folder, api, private=True, revision="try", message="A first try")
    assert address == "https://hub/user/night/commit/1"
    api.create_repo.assert_called_once_with(REPO, private=True, exist_ok=True)
    api.create_branch.assert_called_once_with(REPO, branch="try", exist_ok=True)
    api.upload_folder.assert_called_once_with(
        repo_id=REPO, folder_path=folder, revision="try", commit_message="A first try"
    )


def existing(api: Any, files: list[str], private: bool = False) -> None:
    refs = SimpleNamespace(branches=[SimpleNamespace(name="main")])
    info = SimpleNamespace(private=private)
    found = answers(repo_exists=True, model_info=info, list_repo_refs=refs, list_repo_files=files)
    api.configure_mock(**found)


def test_a_run_is_pushed_again_over_itself(classifier, tmp_path, api):
    folder = folder_of(classifier, tmp_path / "folder")
    existing(api, [".gitattributes", *(file.name for file in folder.iterdir())])
    upload(open_run(classifier.output, REPO), folder, api)
    assert api.upload_folder.called


def test_a_repository_with_other_files_is_refused_by_their_names(classifier, tmp_path, api):
    folder = folder_of(classifier, tmp_path / "folder")
    existing(api, [".gitattributes", "README.md", "model.safetensors"])
    with pytest.raises(StateError) as caught:
        upload(open_run(classifier.output, REPO), folder, api)
    assert list(caught.value.problems) == ["model.safetensors"]
    assert not api.create_repo.called
    assert not api.upload_folder.called


def test_a_public_repository_is_not_taken_for_a_private_one(classifier, tmp_path, api):
    folder = folder_of(classifier, tmp_path / "folder")
    existing(api, [])
    with pytest.raises(StateError, match="is public"):
        upload(open_run(classifier.output, REPO), folder, api, private=True)
    assert not api.upload_folder.called


@pytest.mark.parametrize("error", [httpx2.ConnectError("no route"), OSError("offline mode")])
def test_what_the_hub_or_the_network_refuses_is_told(classifier, tmp_path, api, error):
    folder = folder_of(classifier, tmp_path / "folder")
    api.configure_mock(**{"create_repo.side_effect": error})
    with pytest.raises(SaveError, match=f"could not be uploaded to {REPO}: {error}"):
        upload(open_run(classifier.output, REPO), folder, api)


def test_without_a_token_it_is_told_how_to_log_in(monkeypatch):
    monkeypatch.setattr("lorakit.runs.publishing.get_token", lambda: None)
    with pytest.raises(ConfigError, match=r"hf auth login.*HF_TOKEN"):
        hub_api()
