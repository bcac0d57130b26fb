"""A run that starts from another one's adapter: what is taken, what is left, what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM, BertForSequenceClassification

import lorakit as lora
import lorakit.training.preparation as module
from lorakit.checkpoint import read
from lorakit.errors import FormatError, MismatchError, TargetError
from lorakit.methods import find
from lorakit.recipe.data import prepare, split, with_guesses
from lorakit.recipe.schema import Recipe
from lorakit.training import train
from lorakit.training.model import adapt_model, load_model
from lorakit.training.warm_start import read_source, warm_start
from tests.injection import zoo
from tests.tolerances import EXACT
from tests.training import tiny
from tests.training.test_resuming import KillAfter, Killed


@pytest.fixture(scope="module")
def source(encoder, reviews, tmp_path_factory) -> Path:
    """A finished run with two labels."""
    output = tmp_path_factory.mktemp("runs") / "source"
    train(tiny.recipe(encoder, reviews, output, training={"max_steps": 4}), lambda text: None)
    return output


@pytest.fixture(scope="module")
def ratings(reviews, tmp_path_factory) -> Path:
    """The same texts with three labels."""
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    with reviews.open(encoding="utf-8") as there, path.open("w", encoding="utf-8") as here:
        rows = list(csv.DictReader(there))
        writer = csv.writer(here)
        writer.writerow(["text", "label"])
        writer.writerows([row["text"], "abc"[i % 3]] for i, row in enumerate(rows))
    return path


def fresh(recipe: Recipe) -> Any:
    """The model of a run before its first step, without a warm start."""
    recipe = with_guesses(recipe, lambda text: None)
    _, task = prepare(recipe, split(recipe.data)["train"])
    model, head = load_model(recipe, task)
    adapt_model(recipe, model, head)
    return model


def started(recipe: Recipe, source: Path) -> tuple[Any, Any]:
    model = fresh(recipe)
    return model, warm_start(model, read_source(str(source), recipe.lora.lora_alpha), str(source))


def refusal(recipe: Recipe) -> str:
    """What a run of this recipe is refused with; it leaves nothing."""
    with pytest.raises(MismatchError) as caught:
        train(recipe, lambda text: None)
    assert not Path(recipe.output).exists()
    return str(caught.value)


def test_adapters_are_taken_and_a_head_of_another_size_is_new(encoder, ratings, source, tmp_path):
    model, start = started(tiny.recipe(encoder, ratings, tmp_path), source)
    file, state = read(source / "adapter"), model.state_dict()
    for name, pair in file.adapters.items():
        torch.testing.assert_close(state[f"{name}.lora_A"], pair.tensors["lora_A"], **EXACT)
        torch.testing.assert_close(state[f"{name}.lora_B"], pair.tensors["lora_B"], **EXACT)
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert set(start.loaded) == {*file.adapters, *pooler & set(file.trained)}
    assert set(start.not_loaded) == set(start.new) == {"classifier.weight", "classifier.bias"}
    assert (
        start.not_loaded["classifier.weight"]
        == "has shape (2, 16) in the source and (3, 16) in this run"
    )
    assert "classifier.weight" in str(start)


def test_a_head_of_the_same_size_is_taken(encoder, reviews, source, tmp_path):
    model, start = started(tiny.recipe(encoder, reviews, tmp_path), source)
    file = read(source / "adapter")
    assert not start.not_loaded
    assert not start.new
    for name, value in file.tensors.items():
        torch.testing.assert_close(model.state_dict()[name], value, **EXACT)
    loaded = fresh(tiny.recipe(encoder, reviews, tmp_path))
    lora.load_adapter(loaded, source / "adapter")
    ids = torch.randint(5, 20, (3, 7))
    with torch.no_grad():
        one, other = (m.eval()(input_ids=ids).logits for m in (model, loaded))
    torch.testing.assert_close(one, other, **EXACT)


def test_a_head_for_other_labels_is_new_though_as_many(encoder, reviews, source, tmp_path):
    text = reviews.read_text(encoding="utf-8")
    assert module.source_labels(str(source)) == ("neg", "pos")
    other = tmp_path / "other.csv"
    other.write_text(text.replace(",neg", ",agreed").replace(",pos", ",doubted"), encoding="utf-8")
    said: list[str] = []
    recipe = tiny.recipe(
        encoder, other, tmp_path / "run", init_adapter=str(source), training={"max_steps": 1}
    )
    train(recipe, said.append)
    kept = json.loads((tmp_path / "run/result.json").read_text(encoding="utf-8"))["warm_start"]
    assert kept["not_loaded"] == {
        "classifier.weight": "is for the labels neg, pos",
        "classifier.bias": "is for the labels neg, pos",
    }
    assert set(kept["new"]) == {"classifier.weight", "classifier.bias"}
    assert any("pooler" in name for name in kept["loaded"])


def test_the_labels_of_a_run_on_the_hub_are_known(source, monkeypatch, tmp_path):
    def snapshot_download(hub_id: str, **_: Any) -> str:
        return str(source / "adapter")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert module.source_labels("user/run") == ("neg", "pos")


def test_the_result_says_what_was_taken(encoder, ratings, source, tmp_path):
    said: list[str] = []
    recipe = tiny.recipe(
        encoder, ratings, tmp_path, init_adapter=str(source), training={"max_steps": 2}
    )
    train(recipe, said.append)
    kept = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["warm_start"]
    assert kept["source"] == str(source)
    assert "bert.encoder.layer.0.attention.self.query" in kept["loaded"]
    assert set(kept["not_loaded"]) == {"classifier.weight", "classifier.bias"}
    (text,) = [line for line in said if "initializing from" in line]
    assert "bert.encoder.layer.{0,1}.attention.self.query is loaded" in text
    why = "it has shape (2, 16) in the source and (3, 16) in this run"
    assert f"classifier.weight is not loaded: {why}" in text


def test_a_run_without_one_says_so(source):
    assert json.loads((source / "result.json").read_text(encoding="utf-8"))["warm_start"] is None


def test_more_targets_than_the_source_are_new(encoder, reviews, tmp_path):
    few = {"target_modules": ["query", "value"]}
    output = tmp_path / "few"
    few_recipe = tiny.recipe(encoder, reviews, output, lora=few, training={"max_steps": 1})
    train(few_recipe, lambda text: None)
    _, start = started(tiny.recipe(encoder, reviews, tmp_path / "all"), output)
    assert "bert.encoder.layer.1.attention.self.key" in start.new
    assert "bert.encoder.layer.1.attention.self.query" in start.loaded
    text = refusal(
        tiny.recipe(encoder, reviews, tmp_path / "fewer", lora={"target_modules": ["key"]},
                    init_adapter=str(output))
    )  # fmt: skip
    assert "layer.{0,1}.attention.self.query is not adapted in this run" in text
    assert "see lora.target_modules" in text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"r": 4}, "layer.{0,1}.attention.self.query has another rank; set lora.r: A (2, 16)"),
        (
            {"lora_alpha": 4},
            "has scaling 8 in the source and 2 in this run; set lora.lora_alpha to 16",
        ),
        (
            {"use_dora": True},
            "is LoRA in the source and DoRA in this run; set lora.variant to lora",
        ),
    ],
)
def test_another_rank_scale_or_variant_is_refused(
    settings, expected, encoder, reviews, source, tmp_path
):
    recipe = tiny.recipe(
        encoder, reviews, tmp_path / "run", lora=settings, init_adapter=str(source)
    )
    assert expected in refusal(recipe)


def test_another_width_is_refused_and_nothing_has_changed(encoder, reviews, source, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path)
    bundle = read(source / "adapter")
    wide = torch.zeros(2, 24)
    for pair in bundle.adapters.values():
        object.__setattr__(pair, "tensors", {**pair.tensors, "lora_A": wide})
    model = fresh(recipe)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(MismatchError, match=r"has another width: A \(2, 24\)"):
        warm_start(model, bundle, "there")
    tiny.assert_same(before, model.state_dict())


def test_another_base_is_refused(reviews, source, tmp_path):
    other = tiny.save_encoder(tmp_path / "other")
    changed = BertForMaskedLM.from_pretrained(other)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1)
    changed.save_pretrained(other)
    recipe = tiny.recipe(other, reviews, tmp_path / "run", init_adapter=str(source))
    assert "base weights differ from those that it was trained on" in refusal(recipe)


def test_a_loralib_file_takes_the_recipes_alpha(encoder, reviews, source, tmp_path):
    bundle = read(source / "adapter")
    file = tmp_path / "lora.bin"
    torch.save(dict(bundle.tensors), file)
    model, start = started(tiny.recipe(encoder, reviews, tmp_path), file)
    assert set(start.loaded) == {*bundle.adapters, *bundle.trained}
    tensors = {name: model.state_dict()[name] for name in bundle.tensors}
    tiny.assert_same(tensors, dict(bundle.tensors))


def test_the_magnitudes_of_dora_are_taken(encoder, reviews, tmp_path):
    settings = {"lora": {"use_dora": True}, "training": {"max_steps": 2}}
    train(tiny.recipe(encoder, reviews, tmp_path / "source", **settings), lambda text: None)
    model, start = started(
        tiny.recipe(encoder, reviews, tmp_path / "run", **settings), tmp_path / "source"
    )
    tensors = read(tmp_path / "source/adapter").tensors
    assert any(name.endswith("lora_magnitude_vector") for name in tensors)
    tiny.assert_same({name: model.state_dict()[name] for name in tensors}, dict(tensors))
    assert not start.new
    plain = tiny.recipe(encoder, reviews, tmp_path / "plain", init_adapter=str(tmp_path / "source"))
    assert "is DoRA in the source and LoRA in this run; set lora.variant to dora" in refusal(plain)


def test_trained_tokens_are_taken_where_the_run_trains_the_same(encoder, reviews, tmp_path):
    settings = {"lora": {"trainable_token_indices": [5, 6]}, "training": {"max_steps": 2}}
    source = tmp_path / "source"
    train(tiny.recipe(encoder, reviews, source, **settings), lambda text: None)
    model, start = started(tiny.recipe(encoder, reviews, tmp_path / "run", **settings), source)
    tensors = read(source / "adapter").tensors
    assert any(name.endswith("trainable_tokens_delta") for name in tensors)
    tiny.assert_same({name: model.state_dict()[name] for name in tensors}, dict(tensors))
    assert not start.new
    other = {"lora": {"trainable_token_indices": [6]}, "init_adapter": str(source)}
    message = refusal(tiny.recipe(encoder, reviews, tmp_path / "other", **other))
    assert "trains the rows (5, 6) in the source and (6,) in this run; set lora.train" in message


def test_a_run_that_is_not_finished_is_no_source(encoder, reviews, tmp_path):
    (tmp_path / "recipe.yaml").write_text("base: b\n", encoding="utf-8")
    with pytest.raises(
        FormatError, match=r"is an unfinished run, .* finish it first with: lorakit train"
    ):
        read_source(str(tmp_path), 16)
    with pytest.raises(FormatError, match="No adapter found at"):
        read_source(str(tmp_path / "nothing"), 16)


@pytest.mark.parametrize("method", ["houlsby", "prefix_layer", "lora_prefix", "bitfit", "head"])
def test_what_another_method_trained_is_no_source(method, encoder, tmp_path):
    model = BertForSequenceClassification.from_pretrained(encoder)
    find(method).apply(model, find(method).default_config(), ["pooler", "classifier"])
    lora.save_adapter(model, tmp_path)
    said = rf"with the method {method}, and init_adapter takes the adapters of a run of lora; name"
    with pytest.raises(FormatError, match=said):
        read_source(str(tmp_path), 16)


def test_an_interrupted_warm_start_continues_from_its_checkpoint(
    encoder, ratings, source, tmp_path, monkeypatch
):
    settings = {"init_adapter": str(source), "training": {"max_steps": 6}}
    whole = tiny.recipe(encoder, ratings, tmp_path / "whole", **settings)
    train(whole, lambda text: None)
    cut = tiny.recipe(encoder, ratings, tmp_path / "cut", **settings)
    make = module.make_trainer

    def made(*arguments: Any) -> Any:
        trainer = make(*arguments)
        trainer.add_callback(KillAfter(4))
        return trainer

    monkeypatch.setattr(module, "make_trainer", made)
    with pytest.raises(Killed):
        train(cut, lambda text: None)
    monkeypatch.setattr(module, "make_trainer", make)
    said: list[str] = []
    train(cut, said.append)
    assert any("resuming from" in line for line in said)
    files = (load_file(Path(r.output) / "adapter/adapter_model.safetensors") for r in (whole, cut))
    tiny.assert_same(*files)


def test_a_recipe_that_does_not_fit_its_base_gives_the_directory_back(encoder, reviews, tmp_path):
    wrong = tiny.recipe(encoder, reviews, tmp_path / "run", lora={"target_modules": ["nothing"]})
    with pytest.raises(TargetError):
        train(wrong, lambda text: None)
    assert not (tmp_path / "run").exists()
    right = tiny.recipe(encoder, reviews, tmp_path / "run", training={"max_steps": 1})
    assert train(right, lambda text: None).steps == 1


def test_tied_weights_that_the_source_trained_apart_are_untied(tmp_path: Path) -> None:
    pair = ["embed_tokens", "lm_head"]
    config = lora.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=pair)
    there, here = zoo.llama(), zoo.llama(tie_word_embeddings=True)
    there.load_state_dict(here.state_dict())
    for model in (there, here):
        lora.inject(model, config)
    with torch.no_grad():
        there.lm_head.weight.add_(1)
    bundle = read(lora.save_adapter(there, tmp_path))
    assert set(warm_start(here, bundle, "source").loaded) > {"lm_head.weight"}
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        torch.testing.assert_close(here.get_parameter(name), there.get_parameter(name), **EXACT)
