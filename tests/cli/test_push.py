"""`lorakit push` on a finished run, without a Hub."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
from huggingface_hub import HfApi

from lorakit.training import train
from tests.training import tiny


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("push")
    base, data = tiny.save_encoder(place / "bert"), tiny.save_reviews(place / "reviews.csv")
    recipe = tiny.recipe(base, data, place / "run", training={"max_steps": 1})
    train(recipe, lambda text: None)
    return place / "run"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    client = create_autospec(HfApi, instance=True)
    commit = SimpleNamespace(commit_url="https://hub/user/night/commit/1")
    client.configure_mock(
        **{"repo_exists.return_value": False, "upload_folder.return_value": commit}
    )
    monkeypatch.setattr("lorakit.runs.publishing.HfApi", lambda: client)
    monkeypatch.setattr("lorakit.runs.publishing.get_token", lambda: "hf_token")
    return client


def test_push_uploads_and_prints_files_and_address(run, finished, api):
    code, out, err = run("push", finished, "user/night", "--private", "--message", "First")
    assert (code, err) == (0, "")
    assert "adapter_model.safetensors  " in out
    assert out.endswith("https://hub/user/night/commit/1\n")
    assert api.upload_folder.call_args.kwargs["commit_message"] == "First"
    assert api.create_repo.call_args.kwargs["private"] is True


def test_push_with_an_output_writes_the_files_and_asks_no_hub(run, finished, api, tmp_path):
    code, out, _ = run("push", finished, "user/night", "--output", tmp_path / "folder", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["files"].keys() == {file.name for file in (tmp_path / "folder").iterdir()}
    assert told["place"] == str(tmp_path / "folder")
    assert api.mock_calls == []


def test_push_without_a_token_says_how_to_log_in(run, finished, monkeypatch):
    monkeypatch.setattr("lorakit.runs.publishing.get_token", lambda: None)
    code, out, err = run("push", finished, "user/night")
    assert (code, out) == (1, "")
    assert "hf auth login" in err
