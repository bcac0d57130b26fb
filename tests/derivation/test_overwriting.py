"""`convert` to a place where something is: what is replaced, and what stays in any case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.derivation import conversion, convert
from lorakit.errors import SaveError
from tests.compat.gguf_models import write_base


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=16,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(model: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a model, with its GGUF file."""
    directory = tmp_path_factory.mktemp("base")
    model.save_pretrained(directory)
    write_base(model, directory / "BASE.gguf")
    return directory


def save(model: LlamaForCausalLM, base: Path, path: Path, r: int) -> Path:
    model.config.name_or_path = str(base)
    lora.inject(model, lora.LoraConfig(r=r, target_modules=["q_proj"], init_lora_weights=False))
    try:
        return lora.save_adapter(model, path)
    finally:
        lora.eject(model)


@pytest.fixture
def adapters(model: LlamaForCausalLM, base: Path, tmp_path: Path) -> tuple[str, str]:
    """Two of the base."""
    made = (save(model, base, tmp_path / "adapters" / str(r), r) for r in (2, 4))
    return str(next(made)), str(next(made))


def content(directory: Path) -> dict[str, bytes]:
    files = [file for file in directory.rglob("*") if file.is_file()]
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


def test_gguf_of_the_base_is_never_replaced(base: Path, adapters: tuple[str, str]) -> None:
    before = content(base)
    with pytest.raises(SaveError, match="exists already; pass --overwrite"):
        convert(adapters[0], base / "BASE.gguf", "gguf")
    with pytest.raises(SaveError, match=r"BASE\.gguf is not replaced, as it cannot be") as caught:
        convert(adapters[0], base / "BASE.gguf", "gguf", overwrite=True)
    assert caught.value.problems[0] == "general.type is 'model', not 'adapter'"
    assert content(base) == before


def test_adapter_beside_the_base_is_replaced_and_the_base_stays(
    base: Path, adapters: tuple[str, str]
) -> None:
    before = content(base)
    target = base / "adapter.gguf"
    try:
        convert(adapters[0], target, "gguf")
        with pytest.raises(SaveError, match="exists already"):
            convert(adapters[1], target, "gguf")
        convert(adapters[1], target, "gguf", overwrite=True)
        assert read(target).config.r == 4
    finally:
        target.unlink(missing_ok=True)
    assert content(base) == before


def save_pickle(file: Path) -> None:
    torch.save({"layer.weight": torch.ones(3, 3)}, file)


def save_image_model(file: Path) -> None:
    save_file({"model.diffusion_model.in.weight": torch.ones(3, 3)}, file)


OTHERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "loralib": ("model.pt", save_pickle),
    "kohya": ("images.safetensors", save_image_model),
    "gguf": ("notes.gguf", lambda file: file.write_text("notes")),
}


@pytest.mark.parametrize("format", OTHERS)
def test_file_that_is_no_adapter_is_never_replaced(
    format: str, adapters: tuple[str, str], tmp_path: Path
) -> None:
    name, write = OTHERS[format]
    file = tmp_path / name
    write(file)
    before = file.read_bytes()
    with pytest.raises(SaveError, match="is not replaced, as it cannot be read as an adapter"):
        convert(adapters[0], file, format, overwrite=True)
    assert file.read_bytes() == before


TARGETS = {"gguf": "a.gguf", "loralib": "a.pt", "peft": "a", "lorakit": "a", "mlx": "a"}
CUTS = ("write", "read", "_require_same")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("format", TARGETS)
def test_interruption_at_any_step_leaves_the_adapter_that_was_there(
    format: str, cut: str, adapters: tuple[str, str], tmp_path: Path, monkeypatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    target = place / TARGETS[format]
    convert(adapters[0], target, format)
    (target if target.is_dir() else place).joinpath("notes.txt").write_text("mine")
    before = content(place)
    monkeypatch.setattr(conversion, cut, interrupted(getattr(conversion, cut)))
    with pytest.raises(KeyboardInterrupt):
        convert(adapters[1], target, format, overwrite=True)
    assert content(place) == before
    monkeypatch.undo()
    convert(adapters[1], target, format, overwrite=True)
    assert set(content(place)) == set(before)
    assert content(place) != before


def interrupted(step: Callable[..., object]) -> Callable[..., object]:
    """The step, after which Ctrl-C is pressed."""

    def then_interrupt(*arguments: object, **options: object) -> object:
        step(*arguments, **options)
        raise KeyboardInterrupt

    return then_interrupt


@pytest.mark.parametrize("format", TARGETS)
def test_interruption_leaves_nothing_where_nothing_was(
    format: str, adapters: tuple[str, str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(conversion, "_require_same", interrupted(lambda *_: None))
    with pytest.raises(KeyboardInterrupt):
        convert(adapters[0], tmp_path / "new" / TARGETS[format], format)
    assert not (tmp_path / "new").exists()
