"""What is found of methods, bases and tasks before a sweep is run, without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.errors import ConfigError
from lorakit.experiments.fits import Fits
from tests.training import tiny

COMPLETING = {"task": "generation", "text": "prompt", "label": "completion"}
PREFIXED = pytest.mark.parametrize("method", ["prefix_embedding", "prefix_layer", "lora_prefix"])


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return tiny.save_llama(tmp_path_factory.mktemp("llama"))


def own(method: str, **settings) -> dict[str, dict]:
    """The settings of a method with virtual tokens."""
    return {method: {**settings, **({"lora": {"r": 2}} if method == "lora_prefix" else {})}}


def require(base, tmp_path, **settings) -> None:
    recipe = tiny.recipe(base, tmp_path / "no.csv", tmp_path / "run", data=COMPLETING, **settings)
    Fits().require(recipe)


@PREFIXED
def test_a_prefix_that_leaves_no_positions_is_found(method, llama, tmp_path):
    with pytest.raises(ConfigError, match=rf"{method}.prefix is 600 .* set them to .* or less"):
        require(llama, tmp_path, method=method, **own(method, prefix=600))


@PREFIXED
def test_an_infix_without_labels_is_found(method, llama, tmp_path):
    settings = own(method, prefix=2, infix=2)
    require(llama, tmp_path, method=method, **settings)
    with pytest.raises(ConfigError, match=rf"smoothing is 0.1 and {method}.infix is 2"):
        require(llama, tmp_path, method=method, training={"label_smoothing": 0.1}, **settings)


def test_one_that_smooths_labels_is_not_taken_for_one_that_does_not(llama, tmp_path):
    fits, settings = Fits(), {"method": "prefix_layer", "prefix_layer": {"infix": 2, "prefix": 1}}
    paths = (llama, tmp_path / "no.csv", tmp_path / "run")
    fits.require(tiny.recipe(*paths, data=COMPLETING, **settings))
    smooth = tiny.recipe(*paths, data=COMPLETING, training={"label_smoothing": 0.1}, **settings)
    with pytest.raises(ConfigError, match="label_smoothing"):
        fits.require(smooth)


def test_an_encoder_for_a_task_that_generates_is_found(tmp_path):
    encoder = tiny.save_encoder(tmp_path / "encoder")
    with pytest.raises(ConfigError, match=r"is an encoder \(bert\), .* use a decoder"):
        require(encoder, tmp_path, method="lora")
