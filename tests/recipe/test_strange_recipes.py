"""Recipes that a stranger wrote: read in bounded time, and refused in a sentence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe import from_mapping, load_recipe, with_settings

BOMB = "a: &a [x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES: dict[str, tuple[str | bytes, str]] = {
    "alias": ("a: &a [x]\nb: *a\n", "anchors and aliases are not supported, near line 1"),
    "recursion": ("a: &a\n  b: *a\n", "anchors and aliases are not supported"),
    "bomb": (BOMB, "anchors and aliases are not supported"),
    "40,000 keys": ("".join(f"key{n}: 1\n" for n in range(40_000)), "more than 100,000 bytes"),
    "deep list": ("[" * 90_000, "nested more than 20 deep"),
    "deep mapping": ("{a: " * 20_000, "nested more than 20 deep"),
    "deep block": ("".join(" " * n + "a:\n" for n in range(400)), "nested more than 20 deep"),
    "tag": ("a: !!timestamp x", "the tag tag:yaml.org,2002:timestamp is not supported"),
    "code": ("a: !!python/object/apply:os.system [ls]", "the tag .* is not supported"),
    "digits": (f"a: {'1' * 5000}", "a number has 5,000 digits"),
    "key of several": ("? [a, b]\n: 3", "a key has to be a name, near line 1"),
    "zero byte": (b"a: \x00", "cannot be read"),
    "bytes": (bytes(range(256)), "cannot be read"),
    "UTF-16": ("base: x".encode("utf-16"), "cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    content, message = FILES[name]
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.process_time()
    with pytest.raises(ConfigError, match=message) as error:
        load_recipe(file)
    assert len(str(error.value)) < 600
    assert time.process_time() - start < 5


def test_many_keys_take_no_more_than_linear_time(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("".join(f"k{n}: 1\n" for n in range(10_000)))
    start = time.process_time()
    assert len(load_recipe(file)) == 10_000
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs=.inf", "training.epochs is inf; it must be a number of at most"),
        ("training.epochs=.nan", "training.epochs is nan; it must be a number of at most"),
        ("training.epochs=1e300", "training.epochs is 1e[+]300; it must be a number of at most"),
        (f"training.max_steps={10**30}", "training.max_steps is 10+; it must be a number of at"),
        ("training.learning_rate=.inf", "training.learning_rate is inf"),
        (f"training.total_batch={10**30}", "training.total_batch is 10+; it must"),
        ("data.split_seed=-1", r"data.split_seed is -1; it must be in \[0, 2\*\*32\)"),
        ("data.test=.inf", "data.test is inf; it must be a number of at most"),
        ("lora.r=1000000000", "lora.r is 1000000000; it must be an integer >= 1 and <= 65536"),
        ("lora.rank_pattern={q: 1000000000}", "it must be an integer >= 1 and <= 65536"),
        (f"lora.lora_alpha=1{'0' * 90}", "lora.lora_alpha is 10+; it must be a number of at most"),
        ("decoding.temperature=.inf", "decoding.temperature is inf"),
        ("decoding.length_penalty=-.inf", "decoding.length_penalty is -inf"),
        ("decoding.seed=-1", r"decoding.seed is -1; it must be in \[0, 2\*\*32\)"),
        (f"decoding.max_new_tokens={10**9}", "decoding.max_new_tokens is 10+; it must be at most"),
        (f"decoding.num_beams={10**9}", "decoding.num_beams is 10+; it must be at most 1000"),
        ("training.epochs=!!int x", "is not a valid YAML value"),
        (f"training.epochs={'[' * 3000}", "is not a valid YAML value"),
        (f"training.epochs={'1' * 5000}", "is not a valid YAML value"),
        ("training.epochs=&a [*a]", "is not a valid YAML value"),
    ],
    ids=lambda text: text[:40],
)
def test_number_that_no_run_can_have_is_refused(setting: str, message: str) -> None:
    smallest = {"base": "b", "data": {"train": "t.csv"}, "output": "o"}
    with pytest.raises(ConfigError, match=message):
        from_mapping(with_settings(smallest, [setting]))
