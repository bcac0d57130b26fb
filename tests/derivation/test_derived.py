"""An adapter made from another one, written where one was: new as a whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.derivation import derived
from lorakit.files import atomic_write
from lorakit.variants import LinearSite
from tests.algebra.adapters import adapter, bundle


def content(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_interruption_leaves_the_adapter_and_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (bundle({"q": adapter(LinearSite(7, 5), r)}) for r in (2, 4))
    source, output = write(new, tmp_path / "source"), write(old, tmp_path / "output")
    (source / "tokenizer.json").write_text("new")
    (output / "tokenizer.json").write_text("old")
    (output / "merges.txt").write_text("of the old one alone")
    before = content(output)

    @contextmanager
    def interrupted(path: Path) -> Iterator[Path]:
        with atomic_write(path) as file:
            yield file
        raise KeyboardInterrupt

    monkeypatch.setattr(derived, "atomic_write", interrupted)
    outcome = lora.resize(new, rank=3)
    with pytest.raises(KeyboardInterrupt):
        derived.write_derived(outcome, [source], output)
    assert content(output) == before
    monkeypatch.undo()
    derived.write_derived(outcome, [source], output)
    assert read(output).config.r == 3
    assert (output / "tokenizer.json").read_text() == "new"
    assert not (output / "merges.txt").exists()
