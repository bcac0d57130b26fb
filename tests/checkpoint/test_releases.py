"""The catalogue of published adapters, and reading by its names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lorakit as lora
from lorakit.checkpoint import read, releases
from lorakit.checkpoint.releases import RELEASES, fetch, find
from lorakit.errors import ConfigError, FormatError
from tests.checkpoint.http_files import Server, serving

NAME = "roberta-base-rte"


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = torch.nn.Linear(6, 6)
        self.classifier = torch.nn.Linear(6, 2)


@pytest.fixture
def published(tmp_path, monkeypatch) -> Iterator[Server]:
    """A small adapter under a name of the catalogue, and an empty cache."""
    tensors = {
        "query.lora_A": torch.randn(8, 6),
        "query.lora_B": torch.randn(6, 8),
        "classifier.weight": torch.randn(2, 6),
        "classifier.bias": torch.randn(2),
    }
    torch.save(tensors, tmp_path / "published.bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving((tmp_path / "published.bin").read_bytes()) as server:
        here = replace(RELEASES[NAME], address=server.address)
        monkeypatch.setitem(RELEASES, NAME, here)
        yield server


def test_there_are_24_nlu_and_6_nlg_releases():
    families = Counter(release.base for release in RELEASES.values())
    assert families == {
        "FacebookAI/roberta-base": 8,
        "FacebookAI/roberta-large": 8,
        "microsoft/deberta-v2-xxlarge": 8,
        "openai-community/gpt2-medium": 3,
        "openai-community/gpt2-large": 3,
    }
    addresses = {release.address for release in RELEASES.values()}
    assert len(addresses) == 30
    assert all(a.startswith("https://github.com/microsoft/LoRA/releases/") for a in addresses)


@pytest.mark.parametrize("release", RELEASES.values(), ids=list(RELEASES))
def test_an_entry_agrees_with_itself(release):
    assert RELEASES[release.name] is release
    assert release.task in release.address
    assert release.name.endswith(release.task)
    assert {"roberta": (8, 16), "deberta": (16, 32), "gpt2": (4, 32)}[
        release.name.partition("-")[0]
    ] == (release.r, release.lora_alpha)
    labels = {"mnli": 3, "stsb": 1, "e2e": None, "dart": None, "webnlg": None}
    assert release.labels == labels.get(release.task, 2)
    assert bool(release.head) == (release.labels is not None)
    assert release.alpha_from


def test_the_published_file_is_the_one_of_the_catalogue(shared):
    release = RELEASES["roberta-base-mnli"]
    file = shared / "checkpoints" / Path(release.address).name
    assert file.stat().st_size == release.size
    assert hashlib.sha256(file.read_bytes()).hexdigest() == release.sha256
    assert file.stat().st_size / 2**20 == pytest.approx(release.megabytes, abs=0.05)
    bundle = read(file, release.lora_alpha)
    assert bundle.config.r == release.r
    heads = {name.rpartition(".")[0] for name in bundle.trained}
    assert heads == set(release.head)
    assert bundle.trained[f"{release.head[-1]}.weight"].shape[0] == release.labels


def test_an_adapter_is_loaded_by_its_name(published, tmp_path):
    report = lora.load_adapter(model := Net(), NAME)
    assert report.format == "loralib"
    assert model.query.scaling == 16 / 8
    assert len(published.requests) == 1
    other = Net()
    lora.load_adapter(other, NAME)
    assert len(published.requests) == 1  # the second comes from the cache
    assert torch.equal(model.classifier.weight, other.classifier.weight)
    assert (tmp_path / "cache/lorakit/checkpoints/file.bin").is_file()


def test_the_catalogue_says_the_base_and_the_caller_may_say_alpha(published):
    bundle = read(NAME)
    assert bundle.base_model == "FacebookAI/roberta-base"
    assert bundle.config.lora_alpha == 16
    assert read(NAME, 8).config.lora_alpha == 8


def test_a_directory_of_that_name_comes_first(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lora.inject(model := Net(), lora.LoraConfig(r=2, target_modules=["query"]))
    lora.save_adapter(model, NAME)
    assert read(NAME).config.r == 2
    assert not published.requests


def test_a_revision_of_a_release_is_refused(published):
    with pytest.raises(ConfigError, match="is a release of microsoft/LoRA"):
        read(NAME, revision="main")


def test_a_name_that_is_nearly_right_is_suggested():
    with pytest.raises(FormatError, match="did you mean 'roberta-base-mnli'"):
        read("roberta_base_mnli")


def test_every_unknown_name_is_listed():
    with pytest.raises(ConfigError) as caught:
        find(["roberta-base-mnli", "gpt2-medium-e2", "nothing"])
    assert len(caught.value.problems) == 2
    assert "'gpt2-medium-e2e'" in caught.value.problems[0]
    assert [release.name for release in find(["gpt2-large-e2e", "gpt2-large-e2e"])] == [
        "gpt2-large-e2e"
    ]


def test_the_cache_is_in_the_home_without_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache/lorakit/checkpoints/roberta_base_lora_mnli.bin"
    assert releases.RELEASES["roberta-base-mnli"].cached == expected


def test_a_folder_of_ones_own(published, tmp_path):
    file = fetch(RELEASES[NAME], tmp_path / "mine")
    assert file == tmp_path / "mine" / "file.bin"
    assert file.read_bytes() == published.content
