"""Tags of words beside transformers' collator and PEFT: the same loss, logits and adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from lorakit.inference.prediction import as_examples
from lorakit.inference.session import open_session
from lorakit.methods import load_adapter
from lorakit.tasks import TokenClassification
from lorakit.training import train
from tests.training import tiny

ROWS = {
    "tokens": [["the", "film", "was", "good", "and", "warm"], ["it"], ["plot", "poor", "actor"]],
    "tags": [["O", "B-X", "O", "B-Y", "I-Y", "I-Y"], ["O"], ["B-X", "O", "B-X"]],
}


def save_rows(path: Path) -> Path:
    """Sixty sentences; words of one kind are X, of another Y."""
    lines = []
    for i in range(20):
        for words, tags in zip(ROWS["tokens"], ROWS["tags"], strict=True):
            cut = i % len(words)
            pairs = zip(words[cut:], tags[cut:], strict=True)
            lines += [f"{word}\t{tag}" for word, tag in pairs] + [""]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module", params=[tiny.save_encoder, tiny.save_decoder])
def base(request, tmp_path_factory) -> Path:
    return request.param(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run")
    data = {"label": "tags", "text": ["tokens"], "task": "token_classification"}
    few = {"max_steps": 3, "evaluations": 1}
    recipe = tiny.recipe(
        base, save_rows(path / "rows.conll"), path / "run", data=data, training=few
    )
    train(recipe, lambda text: None)
    return path / "run"


def collated(task: Any, words: Any) -> tuple[Any, Any]:
    """A batch of ours, and transformers' of the same rows."""
    ours = task.collate(words, as_examples(task.encode(words, ROWS)))
    theirs = []
    for tokens, tags in zip(ROWS["tokens"], map(task.target, ROWS["tags"]), strict=True):
        row = words(tokens, is_split_into_words=True)
        of, seen = row.word_ids(), set()
        labels = [-100 if w is None or w in seen or seen.add(w) else tags[w] for w in of]
        theirs.append({**row, "labels": labels})
    return ours, DataCollatorForTokenClassification(words)(theirs)


def test_batch_loss_and_logits_are_transformers_and_pefts(run) -> None:
    session = open_session(str(run))
    assert isinstance(session.task, TokenClassification)
    ours, theirs = collated(session.task, session.tokenizer)
    tiny.assert_same(dict(theirs), ours)
    model = AutoModelForTokenClassification.from_pretrained(
        session.base, num_labels=len(session.task.labels), pad_token_id=0
    )
    in_peft = peft.PeftModel.from_pretrained(model, run / "adapter").eval()
    assert in_peft.peft_config["default"].task_type == "TOKEN_CLS"
    with torch.no_grad():
        one, other = session.model(**ours), in_peft(**theirs)
    torch.testing.assert_close(one.loss, other.loss)
    torch.testing.assert_close(one.logits, other.logits)


def test_an_adapter_of_pefts_is_read_with_its_head(tmp_path) -> None:
    base = tiny.save_encoder(tmp_path / "base")
    config = peft.LoraConfig(peft.TaskType.TOKEN_CLS, r=2, init_lora_weights=False)
    load = lambda: AutoModelForTokenClassification.from_pretrained(base, num_labels=4)  # noqa: E731
    theirs = peft.get_peft_model(load(), config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    load_adapter(ours := load().eval(), tmp_path / "adapter")
    ids = torch.arange(5, 13).view(2, 4)
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits)
    assert open_session(str(tmp_path / "adapter")).task.class_names == ("0", "1", "2", "3")
