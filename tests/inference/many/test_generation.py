"""Texts of many adapters from one batch: each is what its adapter alone writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers import AutoModelForCausalLM

from lorakit.errors import ConfigError
from lorakit.inference import generate_rows, generate_texts, many, open_session
from lorakit.inference.generation import Generated
from lorakit.inference.many import generation
from lorakit.inference.many.names import rows_by_name
from lorakit.inference.partial_outputs import remove_partial
from lorakit.models.loading import load_tokenizer
from lorakit.recipe.decoding import DecodingConfig
from tests.inference.many.files import table_of
from tests.inference.many.languages import TEMPLATE, save_talker

PROMPTS = ["w1 w2 w3 w4 w5 w6", "w7", "w8 w9 w10", "w7", "w1", "w20 w21", "w33 w34 w35 w36", "w1"]
NAMES = ["legal", "poems", None, "dora", "poems", "legal", None, "legal"]
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"max_new_tokens": 8},
    "beams": {"max_new_tokens": 8, "num_beams": 3, "length_penalty": 0.7},
    "no n-gram twice": {"max_new_tokens": 8, "num_beams": 2, "no_repeat_ngram_size": 2},
}


def alone(source: str, table: Any, decoding: DecodingConfig) -> Generated:
    return generate_rows(open_session(source), table, "own", decoding)


def base_alone(base: Path, prompts: list[str], decoding: dict[str, Any]) -> list[str]:
    """What transformers' `generate` writes with the base, prompt by prompt."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), load_tokenizer(base)
    texts = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = model.generate(ids, do_sample=False, pad_token_id=0, **decoding)
        texts.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return texts


def sizes_of(model: nn.Module) -> list[int]:
    """The rows of each forward from now on."""
    sizes: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return sizes


@pytest.mark.parametrize("way", WAYS)
def test_each_text_is_what_its_adapter_alone_writes(
    llama: Path, writers: dict[str, str], way: str
) -> None:
    table = table_of([{"prompt": prompt} for prompt in PROMPTS])
    sessions = many.open_many(writers)
    sizes = sizes_of(sessions.model)
    found = many.generate_rows(sessions, NAMES, table, "mixed", WAYS[way]).texts
    assert max(sizes) == len(PROMPTS) * WAYS[way].get("num_beams", 1)
    for name, rows in rows_by_name(NAMES).items():
        prompts = table.select(rows)
        if name is not None:
            expected = alone(writers[name], prompts, DecodingConfig(**WAYS[way])).texts
        elif way == "no n-gram twice":
            continue
        else:
            expected = base_alone(llama, prompts["prompt"], WAYS[way])
        assert [found[row] for row in rows] == expected
    assert len(set(found)) > 5
    assert len({len(text.split()) for text in found}) > 1, "no row ends before another"


def test_each_adapter_stops_at_its_own_tokens_and_searches_as_its_task_does(
    llama: Path, writers: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(writers["legal"], tmp_path / "short")
    (tmp_path / "short" / "generation_config.json").write_text('{"eos_token_id": [9, 30, 41]}')
    sources = {"legal": writers["legal"], "short": str(tmp_path / "short")}
    names: list[str | None] = ["legal", "short"] * 3
    table = table_of([{"prompt": prompt} for prompt in PROMPTS[:3] for _ in range(2)])
    limit = {"max_new_tokens": 12}
    found = many.generate_rows(many.open_many(sources), names, table, "mixed", limit).texts
    for name, rows in rows_by_name(names).items():
        expected = alone(sources[str(name)], table.select(rows), DecodingConfig(**limit))
        assert [found[row] for row in rows] == expected.texts
    assert found[::2] != found[1::2]


def test_each_conversation_is_in_its_adapters_template(
    llama: Path, writers: dict[str, str], tmp_path: Path
) -> None:
    other = TEMPLATE.replace("assistant", "w50")
    sources = {
        "talk": save_talker(llama, tmp_path / "talk"),
        "other": save_talker(llama, tmp_path / "other", other),
        "legal": writers["legal"],
    }
    names: list[str | None] = [*sources]
    sessions = many.open_many(sources)
    found = many.generate_texts(sessions, names, ["w1 w2"] * 3, {"max_new_tokens": 6}).texts
    for name, text in zip(sources, found, strict=True):
        alone = generate_texts(open_session(sources[name]), ["w1 w2"], DecodingConfig(6))
        assert alone.texts == [text]
        parts: list[str] = []
        stream = many.stream_text(sessions, name, "w1 w2", parts.append, {"max_new_tokens": 6})
        assert stream.texts == [text] == ["".join(parts)]
    assert found[0] != found[1] != found[2]
    with pytest.raises(ConfigError, match="read different columns"):
        many.generate_texts(sessions, [None], ["w1"])


def test_an_interrupted_generation_goes_on(
    writers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = many.open_many(writers)
    table = table_of([{"prompt": prompt} for prompt in PROMPTS])
    settings = {"max_new_tokens": 4, "batch_size": 3}
    expected = many.generate_rows(sessions, NAMES, table, "mixed", settings)
    output, real, done = tmp_path / "out.jsonl", generation.generate_batch, []

    def stopping(*arguments: Any) -> list[str]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(arguments[2]))
        return real(*arguments)

    monkeypatch.setattr(generation, "generate_batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        many.generate_rows(sessions, NAMES, table, "mixed", settings, output=output)
    assert done == [3, 3]
    done.clear()
    found = many.generate_rows(sessions, NAMES, table, "mixed", settings, output=output)
    assert (done, found) == ([2], expected)
    swapped = [{"legal": "poems", "poems": "legal"}.get(str(name), name) for name in NAMES]
    with pytest.raises(KeyboardInterrupt):  # of other adapters nothing is taken
        many.generate_rows(sessions, swapped, table, "mixed", settings, output=output)
    remove_partial(output)
    assert not list(tmp_path.iterdir())


def test_adapters_that_predict_do_not_generate(sources: dict[str, str]) -> None:
    sessions = many.open_many({name: sources[name] for name in ("mood", "stars")})
    with pytest.raises(ConfigError, match="generate no text") as caught:
        many.generate_texts(sessions, ["mood"], ["x"])
    assert caught.value.problems == (
        "mood was trained for classification",
        "stars was trained for regression",
    )
