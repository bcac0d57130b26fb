"""Classification heads of encoder-decoders read a text at its EOS token, of which it has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers
from datasets import Dataset
from tokenizers.processors import TemplateProcessing

from lorakit.errors import ConfigError
from lorakit.inference.prediction import evaluate, predict
from lorakit.inference.session import open_session
from lorakit.tasks.pooling import READ_AT_EOS
from lorakit.training import train
from tests.training import tiny, tiny_seq2seq
from tests.training.tiny_seq2seq import MODELS

MODELING = Path(transformers.__file__).parent / "models"
WRITTEN = r"has the EOS token '\[SEP\]' written in its texts \(text\), .* take it out of row 2"
ROWS = {"text": ["good film", "bad [SEP] film", "dull plot"], "label": ["pos", "neg", "neg"]}


@pytest.fixture(params=MODELS)
def base(request, tmp_path) -> Path:
    return tiny_seq2seq.save_seq2seq(tmp_path / "base", request.param)


def recipe(base: Path, rows: str = "") -> Any:
    data = tiny.save_reviews(base.parent / "reviews.csv", 12)
    data.write_text(data.read_text(encoding="utf-8") + rows, encoding="utf-8")
    lora = {"r": 2, "target_modules": "all-linear"}
    training = {"epochs": 1, "evaluations": 1}
    return tiny.recipe(
        base, data, base.parent / "run", data={"test": str(data)}, lora=lora, training=training
    )


def test_the_models_that_read_at_eos_are_those_of_transformers() -> None:
    sources = MODELING.glob("*/modeling_*.py")
    found = {p.parent.name for p in sources if "number of <eos> tokens" in p.read_text("utf-8")}
    assert found == READ_AT_EOS


def test_an_eos_token_within_a_text_is_refused_by_its_row(base) -> None:
    train(recipe(base), lambda text: None)
    session = open_session(str(base.parent / "run"))
    clean = Dataset.from_dict(ROWS).select([0, 2])
    assert len(predict(session, clean, "rows").values) == 2
    for use in (predict, evaluate):
        with pytest.raises(ConfigError, match=f"^rows {WRITTEN}"):
            use(session, Dataset.from_dict(ROWS), "rows")


def test_training_refuses_an_eos_token_within_a_text(base) -> None:
    first = recipe(base).data.train
    label = Path(first).read_text(encoding="utf-8").splitlines()[1].rsplit(",", 1)[1]
    with pytest.raises(ConfigError, match=r"train has the EOS token .* take it out of row 13"):
        train(recipe(base, f"good [SEP] film,{label}\n"), lambda text: None)


def test_a_tokenizer_that_appends_no_eos_is_refused(base) -> None:
    words = tiny.tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    words.save_pretrained(base)
    with pytest.raises(ConfigError, match=r"at its EOS token \(id 3\), and the tokenizer .* none"):
        train(recipe(base), lambda text: None)
