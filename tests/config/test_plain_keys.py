"""Plain pattern keys are looked up, and match what the regular expression would."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from lorakit.config.patterns import Pattern, key_regex
from lorakit.config.plain_keys import PlainKeys, is_plain

TEXT = st.text("ab1._-", min_size=1, max_size=7)


@given(keys=st.lists(TEXT, unique=True, max_size=6), names=st.lists(TEXT, max_size=6))
def test_plain_key_matches_what_its_expression_matches(keys: list[str], names: list[str]) -> None:
    assert all(map(is_plain, keys))
    found = PlainKeys({key: at for at, key in enumerate(keys)})
    for name in names:
        expected = [at for at, key in enumerate(keys) if re.fullmatch(key_regex(key), name)]
        assert sorted(found.matching(name)) == expected


@given(keys=st.dictionaries(st.one_of(TEXT, st.just(r".*\.a"), st.just("^a")), st.integers()))
def test_first_key_that_matches_counts_among_all_kinds(keys: dict[str, int]) -> None:
    names = ["a", "b.a", "1.b.a", "a_b", "a.b"]
    for name, value in Pattern(keys).of(names, -1).items():
        fitting = (v for key, v in keys.items() if re.fullmatch(key_regex(key), name))
        assert value == next(fitting, -1)


def test_key_for_each_of_many_modules_takes_no_time() -> None:
    names = [f"model.layers.{n}.self_attn.q_proj" for n in range(20_000)]
    began = time.perf_counter()
    pattern = Pattern({name: n for n, name in enumerate(names)})
    assert list(pattern.of(names, -1).values()) == list(range(20_000))
    assert pattern.without_match(names) == []
    assert time.perf_counter() - began < 10
