"""What cannot be added is one error that names all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import lorakit as lora
from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, MismatchError
from lorakit.variants import ConvSite, EmbeddingSite, LinearSite, ModuleAdapter
from tests.algebra.adapters import SITES, adapter, bundle, tokens

SITE = LinearSite(7, 5)
PLAIN = bundle({"q": adapter(SITE, 2)})


def dora() -> ModuleAdapter:
    value = adapter(SITE, 2, variant="dora")
    return replace(value, tensors={**value.tensors, "lora_magnitude_vector": torch.rand(5)})


def refused(*terms: tuple[AdapterBundle, float], **options: Any) -> list[str]:
    with pytest.raises(MismatchError, match="These adapters cannot be combined:") as caught:
        lora.combine(terms, **options)
    return list(caught.value.problems)


def test_everything_that_cannot_be_added_is_in_one_error() -> None:
    head = LoraConfig(modules_to_save=["head"])
    one = bundle(
        {"q": dora(), "embed": tokens([1, 4]), "conv": adapter(ConvSite((6, 4, 3)), 2)},
        trained={"head.weight": torch.ones(2, 2)},
        config=head,
    )
    other = bundle(
        {"q": adapter(SITE, 2), "embed": tokens([1, 5]), "conv": adapter(ConvSite((6, 4, 1)), 2)},
        trained={"head.weight": torch.zeros(2, 2)},
        config=head,
        base_model="org/another",
    )
    problems = refused((one, 0.5), (other, 0.5))
    assert len(problems) == 6
    for part in (
        "their bases have different names: org/base (adapter 1), org/another (adapter 2); if they",
        "q: DoRA of adapter 1 changes the base weight itself",
        "embed: adapter 1 and adapter 2 train different rows of it",
        "conv: sizes differ: (6, 4, 3) in adapter 1, (6, 4, 1) in adapter 2",
        "one adapter cannot have several variants: DoRA at q, LoRA at q",
        "head.weight differs between adapter 1 and adapter 2",
    ):
        assert any(part in problem for problem in problems), part


@pytest.mark.parametrize("weight", [0.5, -1.0])
def test_dora_cannot_be_weighted(weight: float) -> None:
    (problem,) = refused((bundle({"q": dora()}), weight))
    assert problem.startswith("q: DoRA of adapter 1 changes the base weight itself")


def test_the_same_values_cannot_be_weighted() -> None:
    head = {"head.weight": torch.ones(2, 2)}
    rows = tokens([1, 4])
    one = bundle({"q": adapter(SITE, 2), "embed": rows}, trained=head)
    assert refused((one, 0.5), (one, 0.4)) == [
        f"{name}: its values in adapter 1 and adapter 2 replace the base's own, so they can only "
        "be taken whole: with weights that add up to 1, not 0.9"
        for name in ("embed", "head.weight")
    ]
    assert refused((one, 0.5))[1].endswith("add up to 1, not 0.5")


def test_copies_of_the_bases_table_do_not_bind_the_weights() -> None:
    table = {"embed.weight": torch.ones(9, 4)}
    one, other = (
        bundle({"embed": adapter(EmbeddingSite(9, 4), 2)}, trained=dict(table)) for _ in range(2)
    )
    total = lora.combine([(one, 0.7), (other, 0.5)])
    assert torch.equal(total.bundle.trained["embed.weight"], table["embed.weight"])
    another = replace(other, trained={"embed.weight": torch.zeros(9, 4)})
    (problem,) = refused((one, 0.7), (another, 0.5))
    assert problem.startswith("embed.weight differs between adapter 1 and adapter 2")


def test_rows_with_other_values_or_beside_a_whole_table_are_refused() -> None:
    one, other = (bundle({"embed": tokens([1, 4])}) for _ in range(2))
    (problem,) = refused((one, 0.5), (other, 0.5))
    assert "have different values for the same rows" in problem
    table = bundle({"embed": adapter(EmbeddingSite(9, 4), 2)})
    (problem,) = refused((one, 0.5), (table, 0.5))
    assert "some of adapter 1 and adapter 2 train rows of it, others adapt it as a whole" in problem


def test_an_unknown_layer_is_refused_unless_it_stays() -> None:
    unknown = bundle({"q": replace(adapter(SITE, 2), site=None)})
    (problem,) = refused((unknown, 0.5))
    assert problem == (
        "q: of adapter 1: its file does not say the type of its layer; lorakit convert FILE DIR "
        "--to peft --base MODEL finds it"
    )


def test_other_base_weights_are_refused_and_the_same_ones_may_have_two_names() -> None:
    def of(digest: str, name: str) -> AdapterBundle:
        return replace(PLAIN, fingerprint={"float32": digest}, base_model=name)

    (problem,) = refused((of("a", "x"), 0.5), (of("b", "x"), 0.5))
    assert problem == ("they were trained on different base weights: adapter 1 (x); adapter 2 (x)")
    total = lora.combine([(of("a", "x"), 0.5), (of("a", "y"), 0.5)]).bundle
    assert (total.base_model, total.fingerprint) == ("x", {"float32": "a"})


def test_names_that_differ_by_a_prefix_are_refused() -> None:
    names = [f"encoder.layer.{n}.query" for n in range(2)]
    one = bundle({name: adapter(SITE, 2) for name in names})
    other = bundle({f"bert.{name}": adapter(SITE, 2) for name in names})
    (problem,) = refused((one, 0.5), (other, 0.5))
    assert problem == (
        "adapter 1 has encoder.layer.0.query, and adapter 2 bert.encoder.layer.0.query, so their "
        "models name the same modules otherwise; make them alike with lorakit convert --rename"
    )


def test_another_method_is_refused() -> None:
    head = AdapterBundle(method="head", trained={"h": torch.ones(1)}, base_model="org/base")
    assert refused((PLAIN, 0.5), (head, 1.0)) == [
        "adapter 2 was trained by the method head, not lora"
    ]


def test_a_rank_that_groups_do_not_divide_is_refused() -> None:
    grouped = bundle({"c": adapter(SITES["groups"], 2)})
    assert refused((grouped, 2.0), rank=3) == ["c: has groups=2; r=3 must be a multiple of it"]


INVALID: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "none": ([], {}, "there are none"),
    "zeros": ([(PLAIN, 0.0), (PLAIN, 0)], {}, "every weight is 0"),
    "weight": ([(PLAIN, float("nan"))], {}, "weight of adapter 1 is nan"),
    "text": ([(PLAIN, "1")], {}, "weight of adapter 1 is '1'"),
    "rank": ([(PLAIN, 1)], {"rank": 0}, "rank is 0; it must be an integer from 1"),
    "energy": ([(PLAIN, 1)], {"energy": 1.5}, "energy is 1.5; it must be above 0"),
    "both": ([(PLAIN, 1)], {"rank": 2, "energy": 0.5}, "pass rank or energy, one of the two"),
    "method": ([(PLAIN, 1)], {"method": "tie"}, "'tie' is unknown .*'ties'.*linear, ties"),
    "density": ([(PLAIN, 1)], {"method": "ties", "density": 0}, "density is 0; it must be above"),
    "linear": ([(PLAIN, 1)], {"density": 0.5}, "density has no effect with the method linear"),
    "a seed of 65 bits": ([(PLAIN, 1)], {"seed": 2**64}, "seed is 18446744073709551616; it must"),
    "a seed below 0": ([(PLAIN, 1)], {"method": "dare_ties", "seed": -1}, "seed is -1; it must be"),
    "a text as seed": ([(PLAIN, 1)], {"seed": "x"}, "seed is 'x'; it must be an integer from 0"),
    "a boolean as seed": ([(PLAIN, 1)], {"seed": True}, "seed is True; it must be an integer"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_is_refused(name: str) -> None:
    terms, options, message = INVALID[name]
    with pytest.raises(ConfigError, match=message):
        lora.combine(terms, **options)


@pytest.mark.parametrize("size", [{}, {"rank": 1}])
def test_layers_with_one_problem_are_one_line(size: dict[str, int]) -> None:
    many = bundle({f"h.{n}.{name}": dora() for n in range(32) for name in ("q", "k")})
    problems = refused((many, 0.5), **size)
    assert [problem.partition(":")[0] for problem in problems] == ["h.{0-31}.q", "h.{0-31}.k"]


def test_adapters_are_called_by_their_names() -> None:
    one, other = bundle({"h.q": dora()}), bundle({"h.q": adapter(LinearSite(9, 5), 2)})
    problems = refused((one, 0.5), (other, 0.5), names=["runs/legal", "runs/medical"])
    assert problems[0].startswith("h.q: DoRA of runs/legal changes the base weight itself")
    sizes = "linear (5, 7) in runs/legal, linear (5, 9) in runs/medical"
    assert f"h.q: sizes differ: {sizes}" in problems
    problems = refused((one, 0.5), (one, 0.5), names=["same", "same"])
    assert problems[0].startswith("h.q: DoRA of same (adapter 1) changes")
    (problem,) = refused((one, 0.5), names=["alone"])
    assert problem.endswith("(weight 0.5, 1 adapter)")
    with pytest.raises(ConfigError, match="names has 2 of them for 1 adapter"):
        lora.combine([(one, 1)], names=["a", "b"])
