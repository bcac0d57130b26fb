"""Prompts and completions go through the chat template of a base that has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorakit.inference.generation import DecodingConfig, generate_texts
from lorakit.inference.session import open_session
from lorakit.recipe.settled import settled
from lorakit.tasks.generation import require_generating
from lorakit.training import train
from tests.training import tiny
from tests.training.tiny_chat import ANSWERS, recipe, save_llama

FORMS: dict[str, tuple[str, ...]] = {
    "Alpaca": ("instruction", "input", "output"),
    "prompt": ("prompt", "completion"),
    "question": ("question", "answer"),
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_llama(tmp_path / "base")


def save_rows(path: Path, form: str) -> Path:
    names = FORMS[form]
    rows = [
        dict.fromkeys(names, "") | {names[0]: asked, names[-1]: said}
        for asked, said in ANSWERS.items()
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows * 8))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_prompts_are_for_the_template(base: Path, tmp_path: Path, form: str) -> None:
    lines: list[str] = []
    data = save_rows(tmp_path / "rows.jsonl", form)
    found = settled(recipe(base, data, tmp_path / "run"), lines.append).data
    assert (found.task, found.text, found.label) == ("chat", FORMS[form][:-1], FORMS[form][-1])
    assert lines[-1].startswith("The base has a chat template")
    assert "data.task=generation" in lines[-1]


@pytest.mark.parametrize("why", ["the task is given", "no template", "an encoder-decoder"])
def test_rows_of_prompts_stay_as_they_are(base: Path, tmp_path: Path, why: str) -> None:
    given: dict[str, Any] = {"task": "generation"} if why == "the task is given" else {}
    data = save_rows(tmp_path / "rows.jsonl", "prompt")
    begun = recipe(base, data, tmp_path / "run", **given)
    if why == "no template":
        (base / "chat_template.jinja").unlink()
    if why == "an encoder-decoder":
        config = json.loads((base / "config.json").read_text())
        config |= {"model_type": "t5", "is_encoder_decoder": True}
        (base / "config.json").write_text(json.dumps(config))
    assert settled(begun, lambda text: None).data.task == "generation"


def test_a_run_through_the_template_generates_through_it(base: Path, tmp_path: Path) -> None:
    data = save_rows(tmp_path / "rows.jsonl", "Alpaca")
    train(recipe(base, data, tmp_path / "run"), log=lambda text: None)
    session = open_session(str(tmp_path / "run"))
    assert generate_texts(session, [*ANSWERS], DecodingConfig(max_new_tokens=8)).texts == [
        *ANSWERS.values()
    ]
    rows = {"instruction": ["the film"], "input": [""]}
    asked = require_generating(session.task, "run").prompts(session.tokenizer, rows)["input_ids"]
    text = session.tokenizer.decode(asked[0])
    assert text.split() == ["<|im_start|>", "user", "the", "film", "<|im_end|>", "<|im_start|>",
                            "assistant"]  # fmt: skip


def test_a_base_without_a_template_trains_on_plain_text(tmp_path: Path) -> None:
    base = tiny.save_decoder(tmp_path / "base")
    data = save_rows(tmp_path / "rows.jsonl", "prompt")
    (base / "chat_template.jinja").unlink(missing_ok=True)
    begun = recipe(base, data, tmp_path / "run")
    assert settled(begun, lambda text: None).data.task == "generation"
