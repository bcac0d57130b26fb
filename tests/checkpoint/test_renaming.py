"""Names that the user gives modules: as `re.sub` does it, in bounded time, and never two as one."""

from __future__ import annotations

import time

import pytest
import torch

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.renaming import renamed_by
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, FormatError
from lorakit.variants import InProjSite, LinearSite, OutProjSite
from tests.algebra.adapters import tokens
from tests.checkpoint.test_forms import adapter


def bundle(*names: str, **trained: torch.Tensor) -> AdapterBundle:
    pairs = {name: adapter(LinearSite(4, 3)) for name in names}
    return AdapterBundle(LoraConfig(target_modules=["q"]), pairs, trained)


def test_first_expression_that_finds_something_renames() -> None:
    given = bundle("model.layers.0.q", "model.layers.1.q", "other.q")
    rename = {r"^model\.layers\.(\d+)\.": r"h.\1.", r"layers": "never", "^other": "o"}
    found = renamed_by(given, rename | {"q$": "q"})
    assert list(found.adapters) == ["h.0.q", "h.1.q", "o.q"]
    assert found.renamed["h.1.q"] == "model.layers.1.q"
    assert found.config.target_modules == ("h.0.q", "h.1.q", "o.q")


def test_rows_of_tokens_and_attentions_are_no_targets_by_these_names() -> None:
    adapters = {
        "model.embed": tokens([1, 3]),
        "model.attn": adapter(InProjSite(4, 12)),
        "model.attn.out_proj": adapter(OutProjSite(4, 4)),
        "model.q": adapter(LinearSite(4, 3)),
    }
    given = AdapterBundle(LoraConfig(target_modules=["q", "attn"]), adapters)
    assert renamed_by(given, {r"^model\.": ""}).config.target_modules == ("attn", "q")
    only = AdapterBundle(LoraConfig(), {"model.embed": tokens([1, 3])})
    assert renamed_by(only, {r"^model\.": ""}).config.target_modules is None


def test_heads_are_renamed_with_their_tensors() -> None:
    found = renamed_by(bundle("a.q", **{"a.score.weight": torch.ones(1)}), {r"^a\.": "b."})
    assert list(found.trained) == ["b.score.weight"]


WRONG = {
    "(": "not a valid regular expression",
    "(a+)+b": "repeats a group in which something is repeated or chosen",
    "(a|a)*b": "repeats a group in which something is repeated or chosen",
    ".*.*.*.*.*.*.*.*x": "too many repetitions and choices for these names",
    "(q|q|q)" * 30: "too many repetitions and choices for these names",
    r"(q)\1": "refers to one of its groups",
    "nothing": "is in no name of the adapter",
}


@pytest.mark.parametrize(("pattern", "message"), WRONG.items())
def test_expression_that_could_take_forever_is_refused(pattern: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        renamed_by(bundle("a" * 60 + ".q"), {pattern: "x"})
    assert time.monotonic() - start < 1


def test_replacement_of_a_group_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no replacement for '\^a': invalid group reference"):
        renamed_by(bundle("a.q"), {"^a": r"\1"})
    with pytest.raises(ConfigError, match="leaves nothing of these names"):
        renamed_by(bundle("a"), {"^a": ""})


def test_two_modules_never_become_one() -> None:
    with pytest.raises(FormatError, match=r"a\.q and b\.q as c\.q"):
        renamed_by(bundle("a.q", "b.q"), {"^[ab]": "c"})


def test_many_long_names_take_bounded_time() -> None:
    names = [f"model.{'x' * 100}.{n}.q" for n in range(1000)]
    start = time.monotonic()
    renamed_by(bundle(*names), {r"^(.*)\.(\d+)\.q$": r"\1.\2.query"})
    assert time.monotonic() - start < 2
