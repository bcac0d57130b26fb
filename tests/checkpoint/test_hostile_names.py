"""Names that lead out of a directory, in files of every format: they are names, and no paths."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import lorakit as lora
from lorakit.checkpoint import write
from lorakit.checkpoint.summary import summarise
from lorakit.checkpoint.writing import codec_named
from lorakit.errors import FormatError, LorakitError
from tests.checkpoint.format_files import FILES, MODULES, PARTS, Written, unsigned
from tests.checkpoint.test_gguf import LLAMA

OWN = {
    "diffusers": next(iter(PARTS)),
    "kohya": next(iter(PARTS)),
    "adapterhub": "encoder.layer.0",
    "prompt_tuning": "prompt_embeddings",
}
"""A name in the file, where it is not that of a module of a Llama."""
LEADING_OUT = {"up": "../" * 9, "root": "/etc/" + "x" * 40, "home": "~/.ssh/" + "x" * 40}
TARGETS = ("peft", "lorakit", "loralib", "portable", "gguf", "diffusers", "kohya", "mlx")


def rename(written: Written, old: str, new: str) -> None:
    """Give what is called so in the files another name of the same length."""
    is_one = written.target.is_file()
    for file in [written.target] if is_one else written.target.iterdir():
        if file.suffix in (".bin", ".pt"):
            tensors = {key.replace(old, new): t for key, t in torch.load(file).items()}
            torch.save(tensors, file)
        else:
            file.write_bytes(unsigned(file.read_bytes()).replace(old.encode(), new.encode()))


def everything(directory: Path) -> Mapping[str, bytes]:
    files = [file for file in directory.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


@pytest.mark.parametrize("where", LEADING_OUT)
@pytest.mark.parametrize("format", FILES)
def test_name_that_leads_out_is_a_name_or_refused(
    format: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "a" / "b" / "c"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    written = FILES[format](inside)
    old = OWN.get(format, next(iter(MODULES)))
    new = LEADING_OUT[where][: len(old)]
    rename(written, old, new)
    before = everything(tmp_path)
    found, message = None, ""
    try:
        found = written.read()
    except LorakitError as error:
        message = str(error)
    assert everything(tmp_path) == before
    if found is None:
        assert len(message) < 10_000
        return
    assert any(name.startswith(new) for name in [*found.adapters, *found.trained])
    assert str(summarise(found))
    model = nn.ModuleDict({"q": nn.Linear(64, 32)})
    with pytest.raises(LorakitError):
        lora.load_adapter(model, written.target, written.lora_alpha)
    for target in TARGETS:
        suffix = next(iter(codec_named(target).suffixes), "")
        try:
            write(found, inside / "out" / f"{target}{suffix}", target, base=LLAMA)
        except LorakitError:
            continue
    outside = {name for name in everything(tmp_path) if not name.startswith(str(inside / "out"))}
    assert outside == before.keys()


def test_member_of_a_zip_that_leads_out_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    written = FILES["loralib"](inside)
    with zipfile.ZipFile(written.file, "a") as opened:
        opened.writestr("../../evil", "x")
    before = everything(tmp_path)
    with pytest.raises(FormatError, match="is corrupted or not a file of torch"):
        written.read()
    assert everything(tmp_path) == before
