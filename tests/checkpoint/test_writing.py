"""Saving is atomic: whatever happens, the directory holds the old adapter or the new one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peft
import pytest
import torch
from torch import nn

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.formats import tensor_files
from lorakit.checkpoint.formats.peft import writing
from lorakit.errors import SaveError
from lorakit.injection.transfer.saving import bundle_of
from tests.tolerances import EXACT


class Crash(BaseException):
    """The process is gone: nothing that it would still do happens."""


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def bundle(r: int, target: str = "0") -> AdapterBundle:
    """An adapter that differs from another rank's in everything: names, shapes, scale."""
    model = net()
    lora.inject(
        model,
        lora.LoraConfig(r=r, lora_alpha=3 * r, target_modules=[target], init_lora_weights=False),
    )
    return bundle_of(model)


def of_peft(directory: Path, safe: bool = True) -> None:
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0"], init_lora_weights=False)
    peft.get_peft_model(net(), config).save_pretrained(directory, safe_serialization=safe)


OLD: dict[str, Callable[[Path], object]] = {
    "nothing": lambda directory: None,
    "lorakit's": lambda directory: write(bundle(2), directory),
    "PEFT's": of_peft,
}


def same(a: AdapterBundle, b: AdapterBundle) -> bool:
    return (
        a.config.r == b.config.r
        and a.config.lora_alpha == b.config.lora_alpha
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(value, b.tensors[name]) for name, value in a.tensors.items())
    )


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file below the directory, by its name."""
    files = directory.rglob("*") if directory.is_dir() else [directory]
    return {str(f.relative_to(directory)): f.read_bytes() for f in files if f.is_file()}


@contextmanager
def dying_at(n: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Iterator[list[str]]:
    """Let the n-th operating-system step of a save fail, and for a `Crash` each one after it."""
    steps: list[str] = []

    def failing(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **kwargs: object) -> object:
            steps.append(name)
            dead = len(steps) >= n if isinstance(error, Crash) else len(steps) == n
            if dead:
                raise error
            return function(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        for owner, name in (
            (os, "replace"),
            (os, "fsync"),
            (Path, "unlink"),
            (Path, "mkdir"),
            (Path, "rmdir"),
            (Path, "write_text"),
            (tensor_files, "save_file"),
        ):
            patch.setattr(owner, name, failing(name, getattr(owner, name)))
        yield steps


def steps_of_a_save(old: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    OLD[old](directory)
    with dying_at(10**9, monkeypatch, Crash()) as steps:
        write(bundle(3, "2"), directory)
    return steps


@pytest.mark.parametrize("old", OLD)
def test_crash_at_any_step_leaves_the_old_or_the_new(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = bundle(3, "2")
    steps = steps_of_a_save(old, tmp_path / "whole", monkeypatch)
    assert {"replace", "fsync", "save_file", "write_text", "mkdir"} <= set(steps)
    seen = []
    for n in range(1, len(steps) + 1):
        directory = tmp_path / str(n)
        OLD[old](directory)
        before = read(directory) if old != "nothing" else None
        with dying_at(n, monkeypatch, Crash()), pytest.raises(Crash):
            write(new, directory)
        if before is None and not (directory / "adapter_model.safetensors").exists():
            with pytest.raises(
                lora.errors.FormatError,
                match=r"No adapter found at|is not an adapter in a known format",
            ):
                read(directory)
            seen.append("old")
            continue
        after = read(directory)
        assert (before is not None and same(after, before)) or same(after, new), steps[n - 1]
        seen.append("new" if same(after, new) else "old")
    assert seen == sorted(seen, reverse=True), "once the new adapter is there it stays"
    assert {"old", "new"} == set(seen)


@pytest.mark.parametrize("old", OLD)
def test_save_after_a_crash_at_any_step_is_complete(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = bundle(3, "2")
    count = len(steps_of_a_save(old, tmp_path / "whole", monkeypatch))
    for n in range(1, count + 1):
        directory = tmp_path / str(n)
        OLD[old](directory)
        with dying_at(n, monkeypatch, Crash()), pytest.raises(Crash):
            write(bundle(4, "2"), directory)
        write(new, directory)
        assert same(read(directory), new)
        assert not (directory / ".adapter_config.json.previous").exists()


def test_crash_over_a_pickled_adapter_leaves_it_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = net()
    lora.load_adapter(model, write(bundle(2), tmp_path / "a"))
    legacy = tmp_path / "legacy"
    legacy.mkdir()
    of_peft(tmp_path / "b")
    tensors = read(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "adapter_config.json", legacy)
    torch.save(
        {f"base_model.model.{k}.weight": v for k, v in tensors.tensors.items()},
        legacy / "adapter_model.bin",
    )
    with dying_at(10**9, monkeypatch, Crash()) as steps:
        write(bundle(3), shutil.copytree(legacy, tmp_path / "whole"))
    for n in range(1, len(steps) + 1):
        directory = shutil.copytree(legacy, tmp_path / str(n))
        with dying_at(n, monkeypatch, Crash()), pytest.raises(Crash):
            write(bundle(3), directory)
        after = read(directory)
        assert same(after, tensors) or same(after, bundle(3)), steps[n - 1]


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()],
    ids=["full disk", "Ctrl-C"],
)
def test_failure_before_the_new_tensors_are_there_changes_nothing(
    old: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of_a_save(old, tmp_path / "whole", monkeypatch)
    last = steps.index("replace") + (1 if old != "nothing" else 0)
    expected = SaveError if isinstance(error, Exception) else KeyboardInterrupt
    checked = (
        range(1, last + 2) if isinstance(error, Exception) else range(1, steps.index("replace") + 1)
    )
    for n in checked:
        directory = tmp_path / str(n) / "deep"
        OLD[old](directory)
        before = snapshot(tmp_path / str(n))
        with dying_at(n, monkeypatch, error), pytest.raises(expected):
            write(bundle(3), directory)
        assert snapshot(tmp_path / str(n)) == before, steps[n - 1]
        assert (tmp_path / str(n)).exists() == (old != "nothing")


def test_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(SaveError) as caught:
        write(bundle(2), tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert "Nothing there was changed" in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("inside", "why"),
    [(False, r"is a directory; .*file is a file"), (True, r"file.*(exists|Not a directory)")],
    ids=["the path", "its parent"],
)
def test_path_that_is_a_file_is_refused(inside: bool, why: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(SaveError, match=why):
        write(bundle(2), file / "below" if inside else file)
    assert snapshot(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(SaveError, match="Permission denied"):
            write(bundle(2), tmp_path / "a")
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["mkdir", "save_file", "write_text"])
def test_permission_error_is_reported_as_such(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tensor_files if step == "save_file" else Path, step, denied)
    with pytest.raises(SaveError, match="Permission denied"):
        write(bundle(2), tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_directory_in_the_place_of_a_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "inside").write_text("mine")
    with pytest.raises(SaveError, match=f"{name} is a directory"):
        write(bundle(2), tmp_path)
    assert snapshot(tmp_path) == {f"{name}/inside": b"mine"}


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "state").write_text("x")
    write(bundle(2), tmp_path)
    write(bundle(3), tmp_path)
    assert set(snapshot(tmp_path)) == {
        "tokenizer.json",
        "checkpoint-1/state",
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }


def test_card_that_was_edited_stays(tmp_path: Path) -> None:
    write(bundle(2), tmp_path)
    card = tmp_path / "README.md"
    write(bundle(3), tmp_path)
    assert "Rank 3" in card.read_text(), "an untouched card follows the adapter"
    text = "\n".join(line for line in card.read_text().splitlines() if "written by" not in line)
    card.write_text(text + "\nTrained on my data.\n")
    write(bundle(4), tmp_path)
    assert card.read_text() == text + "\nTrained on my data.\n"


@pytest.mark.parametrize("content", [b"# Mine\n", b"\xff\xfe not UTF-8"], ids=["text", "bytes"])
def test_card_of_someone_else_stays(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(content)
    write(bundle(2), tmp_path)
    assert (tmp_path / "README.md").read_bytes() == content


def test_directory_called_like_the_card_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").mkdir()
    write(bundle(2), tmp_path)
    assert (tmp_path / "README.md").is_dir()
    assert same(read(tmp_path), bundle(2))


def test_card_says_what_the_adapter_is(tmp_path: Path) -> None:
    text = (write(bundle(2), tmp_path) / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: peft\n")
    for line in ("Rank 2, lora_alpha 6", "Adapted modules: 1 (0)", "Parameters: 18 in the adapter"):
        assert line in text


def test_tensor_file_alone_is_an_adapter(tmp_path: Path) -> None:
    written = write(bundle(2), tmp_path / "a")
    alone = shutil.copy(written / "adapter_model.safetensors", tmp_path / "moved.safetensors")
    assert same(read(alone), bundle(2))
    model = net()
    lora.load_adapter(model, alone)
    again = bundle_of(model)
    for name, tensor in bundle(2).tensors.items():
        torch.testing.assert_close(again.tensors[name], tensor, **EXACT)


def test_config_is_written_for_people_too(tmp_path: Path) -> None:
    text = (write(bundle(2), tmp_path) / "adapter_config.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True)


def test_a_failure_after_the_tensors_says_that_they_are_new(tmp_path, monkeypatch) -> None:
    """Only the very last renames are left then, and lorakit reads the new adapter."""
    write(bundle(2), tmp_path)
    replace = os.replace

    def fail_for_the_config(source: object, target: Path) -> None:
        if Path(target).name == writing.CONFIG_NAME:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_the_config)
    with pytest.raises(SaveError, match="The new tensors are in"):
        write(bundle(3), tmp_path)
    monkeypatch.undo()
    assert same(read(tmp_path), bundle(3))
    write(bundle(1), tmp_path)
    assert same(read(tmp_path), bundle(1))


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], ids=oct)
def test_files_have_the_mode_that_the_umask_gives(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        written = write(bundle(2), tmp_path / "a")
        write(bundle(3), tmp_path / "a")
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in written.iterdir()}
    assert set(modes.values()) == {0o666 & ~umask}, modes
