"""What vLLM refuses, by its rules."""

from __future__ import annotations

import pytest
import torch

from lorakit.checkpoint import AdapterBundle, vllm, write
from lorakit.config import LoraConfig
from lorakit.errors import SaveError
from lorakit.variants import LinearSite
from tests.checkpoint.test_forms import adapter


def bundle(*heads: str, r: int = 2) -> AdapterBundle:
    config = LoraConfig(r=r, lora_alpha=6, target_modules=["q"], modules_to_save=heads or None)
    trained = {f"{head}.weight": torch.ones(2, 8) for head in heads}
    return AdapterBundle(config, {"q": adapter(LinearSite(2048, 1024), r)}, trained)


def test_one_head_is_taken_and_two_are_refused(tmp_path) -> None:
    assert vllm.obstacles(bundle("score")) == []
    two = bundle("classifier", "score")
    assert vllm.obstacles(two) == ["it contains two heads, classifier and score"]
    with pytest.raises(SaveError) as caught:
        write(two, tmp_path / "a", "vllm")
    assert caught.value.problems == ("it contains two heads, classifier and score",)


@pytest.mark.parametrize(("r", "limit"), [(1, 1), (2, 8), (64, 64), (65, 128), (512, 512)])
def test_least_rank_that_takes_it_is_one_of_vllms(r: int, limit: int) -> None:
    assert vllm.max_rank(bundle(r=r)) == limit


def test_rank_above_all_of_vllms_is_refused() -> None:
    assert vllm.max_rank(bundle(r=513)) is None
    assert vllm.obstacles(bundle(r=513)) == ["its rank is above 512"]
