"""Adapters like one before are placed as that was, and everything else is matched again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit
from lorakit import AdapterSet
from lorakit.adapters import loading
from lorakit.checkpoint import read, write
from lorakit.errors import MismatchError, StateError
from tests.adapters.files import alone, loaded_set, output, save
from tests.adapters.test_rows import TEXT
from tests.checkpoint.test_gguf import without_header
from tests.injection import zoo
from tests.tolerances import MODEL

QV = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
QV_BYTES = 4 * 2 * (2 * (16 + 16) + 2 * (16 + 8))
"""Of one of these: two layers of 16, whose keys and values are half as wide, rank 2."""


@pytest.fixture
def matched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The origins of the bundles that were matched with the model."""
    found, fit = [], loading.fit

    def counted(model: Any, bundle: Any, origin: str, check_base: bool) -> Any:
        found.append(Path(origin).name)
        return fit(model, bundle, origin, check_base)

    monkeypatch.setattr(loading, "fit", counted)
    return found


def test_only_an_adapter_unlike_those_before_is_matched(tmp_path: Path, matched: list[str]) -> None:
    configs: dict[str, dict[str, Any]] = {
        "a": QV,
        "b": QV,
        "more alpha": {**QV, "lora_alpha": 3},
        "rank": {**QV, "r": 3},
        "c": QV,
        "targets": {**QV, "target_modules": ["q_proj"]},
        "head": {**QV, "modules_to_save": ["lm_head"]},
        "head again": {**QV, "modules_to_save": ["lm_head"]},
    }
    paths = {
        name: save(zoo.llama, tmp_path / name, seed, **config)
        for seed, (name, config) in enumerate(configs.items())
    }
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    assert matched == ["a", "more alpha", "rank", "targets", "head", "head again"]
    for name, path in paths.items():
        adapters.activate(name)
        assert_close(output(model, **TEXT), output(alone(zoo.llama, path), **TEXT), **MODEL)
    assert all(loaded.base_verified for loaded in adapters.list())


def bare_llama() -> nn.Module:
    """The model of `zoo.llama` without its head, whose modules have shorter names."""
    model = zoo.llama().model
    assert isinstance(model, nn.Module)
    return model


@pytest.mark.parametrize("budget", [None, QV_BYTES])
def test_adapters_of_other_names_load_any_number_of_times(
    tmp_path: Path, budget: int | None
) -> None:
    """As many as there are, or, where the budget has room for one, again from its file."""
    paths = {name: save(zoo.llama, tmp_path / name, seed, **QV) for seed, name in enumerate("ab")}
    model = bare_llama()
    adapters = AdapterSet(model, budget)
    for name, path in paths.items():
        adapters.load(name, path)
    for name in ("a", "b", "a"):
        adapters.activate(name)
        assert_close(output(model, **TEXT), output(alone(bare_llama, paths[name]), **TEXT), **MODEL)


def test_only_so_many_ways_of_placing_are_remembered(
    tmp_path: Path, matched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "REMEMBERED", 2)
    paths = {f"r{r}": save(zoo.llama, tmp_path / f"r{r}", **{**QV, "r": r}) for r in (1, 2, 3)}
    adapters = loaded_set(zoo.llama(), {n: paths[n] for n in ("r1", "r2")})
    for again, name in (("x", "r1"), ("y", "r3"), ("z", "r1"), ("u", "r3"), ("v", "r2")):
        adapters.load(again, paths[name])
    assert matched == ["r1", "r2", "r3", "r2"]
    assert len(adapters._intake._loader._known) == 2


@pytest.mark.parametrize(("most", "compared"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_numbers_of_so_many_base_weights_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, compared: int
) -> None:
    monkeypatch.setattr(loading, "COMPARED", most)
    adapters = loaded_set(zoo.llama(), {"a": save(zoo.llama, tmp_path, **QV)})
    (_, known) = adapters._intake._loader._known[0]
    assert [mark.numbers is not None for _, mark in known.beside].count(True) == compared


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()}),
        lambda model: model.load_state_dict(
            {k: v * 2 for k, v in model.state_dict().items()}, assign=True
        ),
        lambda model: [parameter.data.mul_(2) for parameter in model.parameters()],
    ],
)
def test_a_base_that_has_changed_is_matched_again(
    tmp_path: Path, change: Callable[[torch.nn.Module], object]
) -> None:
    path = save(zoo.llama, tmp_path, **QV)
    model = zoo.llama()
    adapters = AdapterSet(model)
    adapters.load("before", path)
    change(model)
    with pytest.raises(MismatchError, match="base weights differ"):
        adapters.load("after", path)
    assert [loaded.name for loaded in adapters.list()] == ["before"]


def test_refresh_has_a_base_matched_again_whose_change_nothing_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "COMPARED", 1)
    path, model = save(zoo.llama, tmp_path, **QV), zoo.llama()
    adapters = AdapterSet(model)
    adapters.load("before", path)
    model.get_parameter("model.layers.1.self_attn.v_proj.weight").data.mul_(2)
    adapters.load("not seen", path)
    lorakit.refresh(model)
    with pytest.raises(MismatchError, match="base weights differ"):
        adapters.load("after", path)


def test_an_adapter_for_another_base_stays_refused_after_it_was_allowed(tmp_path: Path) -> None:
    def other() -> torch.nn.Module:
        model = zoo.llama()
        model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
        return model

    path = save(other, tmp_path, **QV)
    adapters = AdapterSet(zoo.llama())
    adapters.load("allowed", path, check_base=False)
    with pytest.raises(MismatchError, match="base weights differ"):
        adapters.load("refused", path)


def test_loading_in_inference_mode_leaves_ordinary_tensors(tmp_path: Path) -> None:
    path = save(zoo.llama, tmp_path, **QV)
    model = zoo.llama()
    adapters = AdapterSet(model)
    with torch.inference_mode():
        adapters.load("a", path)
        with adapters.rows(["a"] * 7 + [None]):
            model(**TEXT)
    embeddings = model.get_input_embeddings()(TEXT["input_ids"]).detach().requires_grad_()  # type: ignore[operator]
    with adapters.rows(["a"] * 7 + [None]):
        model(inputs_embeds=embeddings).logits.sum().backward()
    assert embeddings.grad is not None


def test_a_composition_that_comes_again_is_packed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorakit.adapters import plans

    packed = []
    pack = plans.pack
    monkeypatch.setattr(plans, "pack", lambda *a: packed.append(1) or pack(*a))
    paths = {name: save(zoo.llama, tmp_path / name, 0, **QV) for name in ("a", "b")}
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    for _ in range(3):
        with adapters.rows(["a", "b"] * 4):
            output(model, **TEXT)
    assert len(packed) == 4


def test_a_bundle_that_was_read_loads_as_its_file(tmp_path: Path) -> None:
    path, model = save(zoo.llama, tmp_path / "a", **QV), zoo.llama()
    adapters = AdapterSet(model)
    loaded = adapters.load_bundle("read", read(path), str(path))
    assert loaded == replace(adapters.load("file", path), name="read")
    adapters.activate("read")
    assert_close(output(model, **TEXT), output(alone(zoo.llama, path), **TEXT), **MODEL)
    with pytest.raises(StateError, match="already in this set"):
        adapters.load_bundle("read", read(path), str(path))


def test_of_several_places_renaming_says_which(tmp_path: Path) -> None:
    """Also when an adapter comes back from its file."""
    paths = {name: save(zoo.llama, tmp_path / name, seed, **QV) for seed, name in enumerate("ab")}
    teacher = zoo.llama()
    adapters = AdapterSet(nn.ModuleDict({"student": zoo.llama(), "teacher": teacher}), QV_BYTES)
    with pytest.raises(MismatchError, match="in several places; say which with rename"):
        adapters.load("a", paths["a"])
    for name, path in paths.items():
        adapters.load(name, path, rename={"^": "teacher."})
    for name in ("a", "b", "a"):
        adapters.activate(name)
        expected = output(alone(zoo.llama, paths[name]), **TEXT)
        assert_close(output(teacher, **TEXT), expected, **MODEL)


def test_a_file_whose_names_depend_on_the_base_is_read_with_it(tmp_path: Path) -> None:
    """Of llama.cpp's converter, which does not write the names of modules."""
    path, model = save(zoo.llama, tmp_path / "a", **QV), zoo.llama()
    config: Any = model.config
    file = without_header(write(read(path), tmp_path / "a.gguf", "gguf", base=config.to_dict()))
    loaded_set(model, {"a": file}).activate("a")
    assert_close(output(model, **TEXT), output(alone(zoo.llama, path), **TEXT), **MODEL)
