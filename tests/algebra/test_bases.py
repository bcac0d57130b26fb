"""Adapters of different bases: all are compared with all, and named in groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

import lorakit as lora
from lorakit.algebra.bases import base_problems
from lorakit.checkpoint import AdapterBundle
from lorakit.errors import MismatchError
from lorakit.variants import LinearSite
from tests.algebra.adapters import adapter, bundle

SITE = LinearSite(7, 5)
PLAIN = bundle({"q": adapter(SITE, 2)})
WIDER = bundle({"q": adapter(SITE, 2), "k": adapter(SITE, 2)})


def of(
    digest: str | None, name: str | None, like: AdapterBundle = PLAIN, dtype: str = "float32"
) -> AdapterBundle:
    fingerprint = None if digest is None else {dtype: digest}
    return replace(like, fingerprint=fingerprint, base_model=name)


def problems(*bundles: AdapterBundle) -> list[str]:
    return [*base_problems({f"adapter {n}": b for n, b in enumerate(bundles, 1)})]


def test_those_with_the_same_weights_are_one_group() -> None:
    assert problems(of("a", "x"), of("b", "y"), of("a", "z"), of("b", None)) == [
        "they were trained on different base weights: adapter 1 and adapter 3 (x, z); adapter 2 "
        "and adapter 4 (y)"
    ]


def test_second_and_third_are_compared_where_the_first_says_nothing() -> None:
    given = [of(None, "x"), of("a", "x"), of("b", "x")]
    expected = "they were trained on different base weights: adapter 2 (x); adapter 3 (x)"
    assert problems(*given) == [expected]
    with pytest.raises(MismatchError) as caught:
        lora.combine([(one, 1.0) for one in given])
    assert expected in caught.value.problems


def test_fingerprints_of_other_modules_compare_with_those_like_them() -> None:
    given = [of("a", "x"), of("c", "x", WIDER), of("a", "x"), of("d", "x", WIDER)]
    assert problems(*given) == [
        "they were trained on different base weights: adapter 2 (x); adapter 4 (x)"
    ]
    assert problems(*given[:3]) == []


def test_names_decide_where_fingerprints_do_not() -> None:
    given = [of(None, "x"), of("a", None), of(None, "y"), of("a", "x"), of(None, "y")]
    assert problems(*given) == [
        "their bases have different names: x (adapter 1 and adapter 4), y (adapter 3 and adapter "
        "5); if they are the same, write one name into all configs"
    ]
    assert problems(of("a", "x"), of("a", "y"), of(None, "y")) == []


def test_fingerprints_of_no_common_type_say_nothing() -> None:
    assert problems(of("a", "x"), of("b", "x", dtype="bfloat16")) == []


def test_each_pair_of_namings_is_named_once() -> None:
    moved = bundle({f"model.{name}": x for name, x in PLAIN.adapters.items()})
    assert problems(PLAIN, moved, PLAIN) == [
        "adapter 1 and adapter 3 have q, and adapter 2 model.q, so their models name the same "
        "modules otherwise; make them alike with lorakit convert --rename"
    ]
