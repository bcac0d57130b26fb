"""Regular expressions on names mean what `re` says they do, and take a time that is bounded."""

from __future__ import annotations

import random
import re
import time
import warnings

import pytest

from lorakit.config import LoraConfig
from lorakit.config.expressions import parse
from lorakit.config.places import Text
from lorakit.errors import ConfigError

LAYERS = [
    f"model.language_model.layers.{layer}.{child}"
    for layer in range(12)
    for child in (
        *(f"self_attn.{kind}_proj" for kind in "qkvo"),
        *(f"mlp.{kind}_proj" for kind in ("gate", "up", "down")),
        "input_layernorm",
    )
]
NAMES = [*LAYERS, "lm_head", "model.visual.blocks.3.attn.qkv", "model.embed_tokens", "q_proj"]

PUBLISHED = [
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?"
    r"(?:k_proj|v_proj|q_proj|out_proj|fc1|fc2|o_proj|gate_proj|up_proj|down_proj|correct).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attn|mlp)\.(?:(?:k_proj|v_proj|q_proj)))",
    r"^(model.language_model(?=\.).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj))$",
    r"^(?!.*visual).*(?:q|k|v|o|gate|up|down)_proj$",
    r"((?!visual).)*_proj",
    r"(.*\.)?layers\.(1|2|[3-9]\d?)\.self_attn\.[qv]_proj",
    r".*(text_model|modality_projection|language_model).*(down_proj|up_proj|q_proj|v_proj).*$",
    r"model\.language_model\.layers\.\d+\.(?:self_attn|mlp)\.\w+(?<!down_proj)",
    r"(?i:.*Q_PROJ)|LM_HEAD",
    r"(?i).*Q_PROJ|LM_HEAD",
    r".*\.(?P<layer>\d{2})\..*_proj",
    r"[^.]+\.visual\.[a-z]+(\.\d+)?\.(.+)",
    r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
]
"""As trainers of language and vision models write them into `target_modules`."""

CATASTROPHIC = [
    r"(a+)+b", r"(a|a)*b", r"(a|aa)+b", r"(.*)*b", r"(.*a){20}b", r"((a*)*)*b", r".*" * 30 + "b",
    r"(a?){60}a{60}b", r"(?=(a+)+b)a*", r"(?:(?:(?:a*b?)*c?)*d?)*e", r"(a{0,65535}){0,65535}b",
    r"(?:(?:a|b)*a(?:a|b){200})*c", r"(?:a{1000}){1000}b",
]  # fmt: skip


def fitting(pattern: str, names: list[str]) -> list[str]:
    return Text(names).fitting(parse(pattern))


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_published_pattern_fits_what_re_says(pattern: str) -> None:
    assert fitting(pattern, NAMES) == [n for n in NAMES if re.fullmatch(pattern, n)]


@pytest.mark.parametrize("pattern", CATASTROPHIC)
@pytest.mark.parametrize("name", ["a" * 40, "ab" * 100, "a" * 10_000], ids=len)
def test_catastrophic_pattern_takes_no_time(pattern: str, name: str) -> None:
    start = time.process_time()
    fits = name.endswith("b") and pattern in (r"(.*)*b", r"(.*a){20}b", r".*" * 30 + "b")
    assert (name in fitting(pattern, [name, "b"])) is fits
    assert time.process_time() - start < 5


def test_pattern_that_would_take_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorakit.config.places._WORK", 100)
    with pytest.raises(ConfigError, match="take too long to match against the names of 2 modules"):
        fitting("(a|aa)+b", ["a" * 1000, "b"])
    assert fitting("a+", ["a" * 1000, "b"]) == ["a" * 1000]


def test_pattern_of_many_words_takes_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorakit.config.places._KEPT_BITS", 20_000)
    text = Text([f"layer.{n}" for n in range(300)])
    assert len(text.fitting(parse("|".join(rf"layer\.{n}" for n in range(200))))) == 200
    assert len(text._masks) < 10


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(a)\1", "refers to one of its groups"),
        (r"(?P<x>a)(?P=x)", r"a group that begins with '\(\?P='"),
        (r"(a)?(?(1)b|c)", r"a group that begins with '\(\?\(1'"),
        (r"(?>a*)b", r"a group that begins with '\(\?>a'"),
        (r"a*+b", "possessive repetition"),
        (r"(?x)a b", r"a group that begins with '\(\?x\)'"),
        ("(" * 60 + "a" + ")" * 60, "nested more than 50 deep"),
        ("a" * 1_000_001, "it has 1,000,001 letters"),
    ],
    ids=["reference", "named", "condition", "atomic", "possessive", "verbose", "deep", "long"],
)
def test_what_is_not_supported_is_said(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"target_modules: .* is not supported: .*{why}"):
        LoraConfig(target_modules=pattern)


@pytest.mark.parametrize("pattern", ["(" * 100_000, "a{99999999999}", "(a", "*", "a)(b", r"[z-a]"])
def test_invalid_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid regular expression") as error:
        LoraConfig(target_modules=pattern)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["", "a\nb", "\n"])
def test_name_with_a_line_break_reads_as_one_name(name: str) -> None:
    assert fitting(r"[^b]*.?", [name, "q", name]) == [name, "q", name]
    assert fitting("a\n?b|.\n", [name]) == []


ATOMS = [
    "a", "b", ".", r"\.", "[ab]", "[^a]", r"\d", r"\w", "1", "_", r"\x61", "[]a]", "[^]b.]", "é",
    "A", r"\W", "ab", "b1", "{", "}", "a{,", r"\u0061", r"[\d.]", "(?#x)", r"\-",
]  # fmt: skip
COUNTS = ["*", "+", "?", "{2}", "{1,2}", "{0,}", "{,2}", "{,}", "*?", "+?", "??", "{1,}?"]


def expression(draw: random.Random, depth: int) -> str:
    """A random one, of everything that is read."""

    def inner() -> str:
        return expression(draw, depth - 1)

    kind = draw.choices(range(7), [35, 15, 10, 15, 10, 10, 5])[0] if depth else 0
    if kind == 0:
        return draw.choice(ATOMS)
    if kind in (1, 2):
        return "".join(inner() for _ in range(kind + 1))
    if kind == 3:
        return f"({inner()}|{inner()})"
    if kind == 4:
        return f"(?:{inner()}){draw.choice(COUNTS)}"
    if kind == 5:
        edge = draw.choice(["^", "$", r"\b", r"\B", r"\A", r"\Z", "", ""])
        return edge + draw.choice(["(?=", "(?!", "(?i:", "(?a:", "("]) + inner() + ")" + inner()
    return draw.choice(["(?<=", "(?<!"]) + draw.choice(["a", "[ab]", "ab|1b", ".."]) + ")" + inner()


@pytest.mark.parametrize(
    "cases", [500, pytest.param(50_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_random_expression_fits_what_re_says(cases: int) -> None:
    draw, tried = random.Random(cases), 0
    while tried < cases:
        pattern = draw.choice(["", "", "", "(?i)", "(?as)"]) + expression(draw, 4)
        names = ["".join(draw.choices("ab.1Aé_{-", k=draw.randint(1, 7))) for _ in range(12)]
        try:
            with warnings.catch_warnings(action="ignore"):
                fits = re.compile(pattern).fullmatch
        except re.error:
            continue
        assert fitting(pattern, names) == [name for name in names if fits(name)], (pattern, names)
        tried += 1
