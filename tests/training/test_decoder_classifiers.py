"""Decoders as published, with an end of text and no padding token, learn to classify in batches."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from lorakit.inference.prediction import evaluate, predict, run_model
from lorakit.inference.session import LoadOptions, Session, evaluation_tables, open_session
from lorakit.merging import merge_files
from lorakit.runs.next_steps import usage
from lorakit.training import train
from tests.training import tiny, tiny_chat, tiny_gpt2
from tests.training.printed import run_lines

TEXTS = ["good", "the film was very dull and the actor was cold", "it was warm"]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def run(request, reviews, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp(request.param)
    save = {"llama": tiny_chat.save_llama, "gpt2": tiny_gpt2.save_gpt2}[request.param]
    base = save(directory / "base")
    assert AutoTokenizer.from_pretrained(base).pad_token is None
    recipe = tiny.recipe(
        base, reviews, directory / "run", training={"learning_rate": 0.005, "epochs": 1}
    )
    train(recipe, lambda text: None)
    return directory / "run"


def logits(session: Session, texts: list[str]) -> torch.Tensor:
    examples = [{"input_ids": i} for i in session.tokenizer(texts)["input_ids"]]
    found = torch.empty(len(texts), 2)
    for batch in run_model(session, session.task, examples):
        found[batch.examples] = batch.logits
    return found


def test_a_batch_has_the_logits_of_each_text_alone(run):
    session = open_session(str(run))
    alone = torch.cat([logits(session, [text]) for text in TEXTS])
    torch.testing.assert_close(logits(session, TEXTS), alone, rtol=1e-4, atol=1e-5)


def test_rows_are_predicted_and_evaluated(run):
    session = open_session(str(run / "adapter"))
    table = evaluation_tables(open_session(str(run)), None)["test"]
    assert len(predict(session, table, "test").values) == len(table)
    assert 0 <= evaluate(session, table, "test").metrics["accuracy"] <= 1


@pytest.mark.parametrize("tool", ["lorakit", "peft"])
def test_the_printed_lines_work_on_a_batch(tool, run):
    names, session = run_lines(usage(str(run)), tool), open_session(str(run))
    batch = names["tokenizer"](TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = names["model"](**batch).logits
    torch.testing.assert_close(found, logits(session, TEXTS), rtol=1e-4, atol=1e-5)


def test_a_merged_classifier_names_its_labels_and_pads(run, tmp_path):
    report = merge_files(str(run / "adapter"), None, tmp_path / "merged")
    assert report.tokenizer == str(run / "adapter")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert model.config.id2label == {0: "neg", 1: "pos"}
    assert model.config.problem_type == "single_label_classification"
    classify = pipeline("text-classification", str(tmp_path / "merged"), device="cpu")
    found = classify(TEXTS, batch_size=3)
    session = open_session(str(run))
    wanted = logits(session, TEXTS).softmax(-1)
    assert [one["label"] for one in found] == session.task.predictions(wanted)
    for one, row in zip(found, wanted, strict=True):
        assert one["score"] == pytest.approx(float(row.max()), rel=1e-4)


def test_an_adapter_of_peft_on_such_a_decoder_predicts_and_is_merged(tmp_path):
    """It has neither a tokenizer nor a task of its own."""
    base = tiny_gpt2.save_gpt2(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(base)
    config = peft.LoraConfig("SEQ_CLS", r=2, fan_in_fan_out=True, init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    options = LoadOptions(text=("text",), labels=("no", "yes"))
    session = open_session(str(tmp_path / "adapter"), options)
    alone = torch.cat([logits(session, [text]) for text in TEXTS])
    torch.testing.assert_close(logits(session, TEXTS), alone, rtol=1e-4, atol=1e-5)
    merge_files(str(tmp_path / "adapter"), None, tmp_path / "merged")
    classify = pipeline("text-classification", str(tmp_path / "merged"), device="cpu")
    wanted = alone.softmax(-1).amax(-1).tolist()
    found = [one["score"] for one in classify(TEXTS, batch_size=3)]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_a_regression_says_so_when_merged(encoder, tmp_path):
    data = tmp_path / "scores.csv"
    data.write_text(
        "text,score\n" + "".join(f"good {w},{i / 10}\n" for i, w in enumerate(tiny.OTHER * 3))
    )
    columns = {"task": "regression", "text": ["text"], "label": "score", "test": 4}
    recipe = tiny.recipe(encoder, data, tmp_path / "run", data=columns, training={"max_steps": 1})
    train(recipe, lambda text: None)
    merge_files(str(tmp_path / "run" / "adapter"), None, tmp_path / "merged")
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").config
    assert (config.problem_type, config.num_labels) == ("regression", 1)
