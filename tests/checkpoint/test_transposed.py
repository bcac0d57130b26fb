"""GPT-2's Conv1D in PEFT's files: its weight is (in, out), which `fan_in_fan_out` says."""

from __future__ import annotations

import pytest

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.formats.peft.decoding import decode
from lorakit.checkpoint.formats.peft.encoding import encode
from lorakit.checkpoint.formats.peft.layout import PeftFiles
from lorakit.config import LoraConfig
from lorakit.errors import FormatError
from lorakit.variants import LinearSite, Site, SlicedSite
from tests.checkpoint.test_formats import (
    CONFIG,
    adapter,
    assert_same_bundle,
    tensors,
    there_and_back,
)


@pytest.mark.parametrize(
    "sites",
    [
        {"q": LinearSite(5, 4, transposed=True)},
        {"q": SlicedSite(5, 8, True, ((4, True), (4, False)))},
        {"q": LinearSite(5, 4, transposed=True), "k": LinearSite(5, 4)},
    ],
    ids=["Conv1D", "its slices", "one of two"],
)
def test_transposed_weights_come_back_and_are_written_again(sites: dict[str, Site]) -> None:
    pairs = {name: adapter(site) for name, site in sites.items()}
    bundle = AdapterBundle(LoraConfig(r=2, target_modules=list(sites)), pairs)
    found = there_and_back(bundle)
    assert_same_bundle(found, bundle)
    assert encode(found).config["fan_in_fan_out"] is True


def test_fan_in_fan_out_of_another_tool_is_kept() -> None:
    found = decode(PeftFiles(CONFIG | {"fan_in_fan_out": True}, tensors(), None))
    assert found.adapters["q"].site == LinearSite(5, 4, transposed=True)
    assert encode(found).config["fan_in_fan_out"] is True
    with pytest.raises(FormatError, match="fan_in_fan_out is 1; it must be true or false"):
        decode(PeftFiles(CONFIG | {"fan_in_fan_out": 1}, tensors(), None))
