"""A checkpoint that is not as it was written is said and not used."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from transformers import TrainerState

from lorakit.errors import FormatError
from lorakit.runs import checkpoints
from tests.runs import damage
from tests.runs.damage import DAMAGES


def write(run: Path, step: int, best: int | None = None) -> Path:
    """A checkpoint with some bytes for each file."""
    place = checkpoints.checkpoint_path(run, step)
    place.mkdir(parents=True)
    for name in damage.FILES:
        (place / name).write_bytes(f"{name} of step {step}".encode())
    state = TrainerState(global_step=step, best_global_step=best)
    state.save_to_json(str(place / checkpoints.STATE))
    checkpoints.mark_complete(place, float(step))
    return place


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_is_used(kind, tmp_path):
    earlier, newest = write(tmp_path, 3), write(tmp_path, 6)
    DAMAGES[kind](newest, earlier)
    said: list[str] = []
    found = checkpoints.newest_whole(tmp_path, said.append)
    assert found is not None
    assert (found.path, found.seconds, found.state.global_step) == (earlier, 3.0, 3)
    if kind != "gone":
        assert said[0].startswith(f"{newest} is not used: ")


def test_there_are_many_kinds_of_damage():
    assert len(DAMAGES) == 49


def test_a_file_that_the_disk_does_not_give_back_is_damage(tmp_path, monkeypatch):
    newest = write(tmp_path, 6)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", broken)
    with pytest.raises(FormatError, match=r"checkpoint-6 cannot be read: .*Input/output error"):
        checkpoints.read_checkpoint(newest)


def test_every_file_that_is_wrong_is_named(tmp_path):
    earlier, newest = write(tmp_path, 3), write(tmp_path, 6)
    for name in ("delete scheduler.pt", "from_earlier optimizer.pt", "added"):
        DAMAGES[name](newest, earlier)
    with pytest.raises(FormatError) as caught:
        checkpoints.read_checkpoint(newest)
    assert caught.value.problems == (
        "scheduler.pt is missing",
        "model.safetensors is not one of its files",
        "optimizer.pt is not as it was written",
    )


def test_strays_are_no_checkpoints(tmp_path):
    newest = write(tmp_path, 6)
    damage.stray(tmp_path)
    said: list[str] = []
    found = checkpoints.newest_whole(tmp_path, said.append)
    assert found is not None
    assert found.path == newest
    assert len(said) == 2, "the two that could have been one"


def test_no_whole_checkpoint_is_none(tmp_path):
    newest = write(tmp_path, 6)
    DAMAGES["gone"](newest, newest)
    assert checkpoints.newest_whole(tmp_path, print) is None
    assert checkpoints.newest_whole(tmp_path / "nowhere", print) is None


def test_a_checkpoint_whose_best_one_is_damaged_is_not_used(tmp_path):
    """The run would end with weights that are no longer there."""
    first, best = write(tmp_path, 3, best=3), write(tmp_path, 6, best=6)
    newest = write(tmp_path, 9, best=6)
    DAMAGES["flip adapter_model.safetensors"](best, first)
    said: list[str] = []
    found = checkpoints.newest_whole(tmp_path, said.append)
    assert found is not None
    assert found.path == first
    assert said[0] == (
        f"{newest} is not used: checkpoint-6 is damaged:\n"
        "  - adapter_model.safetensors is not as it was written"
    )


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux which file it is")
def test_the_mark_names_every_file_after_all_are_on_the_disk(tmp_path, monkeypatch):
    flushed: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    place = write(tmp_path, 3)
    content = json.loads((place / checkpoints.COMPLETE).read_text())
    assert set(content["files"]) == set(damage.FILES)
    assert all(facts.keys() == {"bytes", "sha256"} for facts in content["files"].values())
    mark = next(i for i, name in enumerate(flushed) if name.startswith(".complete"))
    assert set(damage.FILES) | {"checkpoint-3"} <= set(flushed[:mark])
    assert flushed[mark + 1 :] == ["checkpoint-3", tmp_path.name]


@pytest.mark.parametrize("kind", ["gone", "a_file", "as_directory optimizer.pt", "delete complete"])
def test_whatever_stands_in_the_place_of_a_checkpoint_is_removed(kind, tmp_path):
    place = write(tmp_path, 3)
    DAMAGES[kind](place, place)
    checkpoints.remove_checkpoint(place)
    assert not place.exists()


def test_two_checkpoints_and_the_best_one_are_kept(tmp_path):
    for step in (2, 4, 6, 8, 10):
        write(tmp_path, step)
    write(tmp_path, 99)  # damaged later on, say: no newer one of this run
    checkpoints.prune(tmp_path, 10, 4)
    kept = [path.name for path in checkpoints.complete_checkpoints(tmp_path)]
    assert kept == ["checkpoint-4", "checkpoint-8", "checkpoint-10", "checkpoint-99"]


def test_a_mark_without_its_fields_is_told_in_words(tmp_path):
    place, said = write(tmp_path, 3), list[str]()
    (place / checkpoints.COMPLETE).write_text("{}")
    assert checkpoints.newest_whole(tmp_path, said.append) is None
    assert "it must be a mapping with run, seconds, which is a number, and files" in said[0]
