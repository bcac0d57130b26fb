"""What can share a base, and what cannot: one message with everything that differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LongformerConfig, LongformerModel

import lorakit.methods as methods
from lorakit.errors import ConfigError, MismatchError, StateError
from lorakit.inference import many, open_session, predict
from lorakit.inference.session import LoadOptions
from lorakit.models.loading import load_for_task
from lorakit.tasks import MultipleChoice, TokenClassification
from lorakit.tasks.task_file import save_task
from tests.inference.many.files import (
    CONFIGS,
    ROWS,
    TASKS,
    save_bert,
    save_run,
    save_trained,
    table_of,
)
from tests.inference.many.languages import PLAIN
from tests.inference.many.test_prediction import NAMES

QV = CONFIGS["mood"]
QV_OF_LLAMA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}


def problems(sources: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError, match="cannot share one base") as caught:
        many.open_many(sources)
    return caught.value.problems


def test_other_bases_models_and_vocabularies_are_one_message(
    minilm: Path, llama: Path, writers: dict[str, str], sources: dict[str, str], tmp_path: Path
) -> None:
    other = save_bert(minilm, tmp_path / "bert")
    sources = {
        "mood": sources["mood"],
        "writer": writers["legal"],
        "there": str(save_trained(other, tmp_path / "there", TASKS["stars"], **QV)),
    }
    bases, models, vocabularies = problems(sources)
    assert bases.startswith("they have different base models: ")
    assert f"{other} (there)" in bases
    assert models == (
        "they have different models: SequenceClassification (mood, there), CausalLM (writer)"
    )
    assert vocabularies.startswith("they have different vocabularies: 30,522 tokens [")
    assert "65 tokens [" in vocabularies


def test_a_tokenizer_with_more_tokens_is_another(
    bert: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    tokenizer.add_tokens(["brrr"])
    more = save_trained(bert, tmp_path / "more", TASKS["stars"], tokenizer=tokenizer, **QV)
    (found,) = problems({"mood": sources["mood"], "more": str(more)})
    assert "30,523 tokens" in found


def test_other_padding_tokens_are_refused(
    llama: Path, writers: dict[str, str], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama, pad_token="<eos>")
    other = save_trained(llama, tmp_path / "other", PLAIN, 0, tokenizer, **QV_OF_LLAMA)
    (found,) = problems({"legal": writers["legal"], "other": str(other)})
    assert found == "they have different padding tokens: '<pad>' (legal), '<eos>' (other)"


def test_methods_other_than_lora_are_refused_by_name(
    bert: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    for name in ("houlsby", "bitfit"):
        method, task = methods.find(name), TASKS["mood"]
        model, head = load_for_task(str(bert), task.auto_class, task.head())
        method.apply(model, method.config_type(), head)
        methods.save_adapter(model, tmp_path / name)
        save_task(task, tmp_path / name)
    found = problems(
        {"mood": sources["mood"], "a": f"{tmp_path}/houlsby", "b": f"{tmp_path}/bitfit"}
    )
    assert found == tuple(
        f"{name}, {tmp_path}/{method}, was trained with the method {method}; a shared base takes "
        "LoRA's adapters"
        for name, method in (("a", "houlsby"), ("b", "bitfit"))
    )


def test_a_run_in_16_bits_answers_as_it_does_alone_and_is_not_mixed_with_32(
    bert: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    runs = {
        n: save_run(path, tmp_path / n, bert, training={"dtype": "bf16"})
        for n, path in sources.items()
    }
    (found,) = problems({"mood": runs["mood"], "stars": sources["stars"]})
    assert found.startswith("they have different precisions (RUN/adapter in place of RUN computes")
    assert found.endswith(": bf16 (mood), fp32 (stars)")
    sessions, table = many.open_many(runs), table_of()
    values = many.predict(sessions, NAMES, table, "mixed").values
    body = sessions.model.bert.encoder.layer[0].attention.self.query.weight
    assert (body.dtype, sessions.model.classifier.weight.dtype) == (torch.bfloat16, torch.float32)
    for name, run in runs.items():
        rows = [n for n, other in enumerate(NAMES) if other == name]
        alone = predict(open_session(run), table.select(rows), "own").values
        together = [values[row] for row in rows]
        assert together == (pytest.approx(alone, rel=0.02) if name == "stars" else alone)


def test_tags_of_words_and_choices_are_models_of_their_own(
    bert: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    tasks = {
        "tags": TokenClassification(("words",), "tags", 32, ("O", "B-PER")),
        "choice": MultipleChoice(("question", "one", "two"), "label", 32),
    }
    mixed = {"mood": sources["mood"]}
    for name, task in tasks.items():
        mixed[name] = str(save_trained(bert, tmp_path / name, task, **QV))
    (found,) = problems(mixed)
    assert (
        "SequenceClassification (mood), TokenClassification (tags), MultipleChoice (choice)"
        in found
    )


def test_base_weights_other_than_those_of_the_training_are_refused(
    minilm: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    other = save_bert(minilm, tmp_path / "bert", seed=1)
    options = LoadOptions(base=str(other))
    with pytest.raises(MismatchError, match="the base weights differ"):
        many.open_many(sources, options)
    assert many.open_many(sources, LoadOptions(base=str(other), check_base=False)).base == str(
        other
    )


def test_names_are_one_for_each_row_and_known(sources: dict[str, str]) -> None:
    sessions = many.open_many({"mood": sources["mood"]})
    with pytest.raises(ConfigError, match="names 1 adapter for 9 rows"):
        many.predict(sessions, ["mood"], table_of(), "mixed")
    with pytest.raises(ConfigError, match=r"'stars': rows 3, 7") as caught:
        many.predict(sessions, NAMES, table_of(ROWS), "mixed")
    assert len(caught.value.problems) == 3


def test_modules_whose_rows_cannot_differ_are_refused_when_opened(
    minilm: Path, tmp_path: Path
) -> None:
    """Longformer's attention has the tokens first."""
    base = save_longformer(minilm, tmp_path / "base")
    sources = {n: str(save_trained(base, tmp_path / n, TASKS["mood"], **QV)) for n in "ab"}
    with pytest.raises(StateError, match="is in LongformerSelfAttention"):
        many.open_many(sources)


def save_longformer(minilm: Path, directory: Path) -> Path:
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    config = LongformerConfig(
        vocab_size=len(tokenizer), attention_window=[4], num_attention_heads=2, **sizes
    )
    LongformerModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
