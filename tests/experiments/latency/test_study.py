from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.experiments.latency import LatencyStudy
from lorakit.recipe.method_configs import method_configs


def test_methods_have_their_recipes_defaults_and_the_settings_given():
    found = method_configs(["lora", "bitfit"], ["lora.r=4", "lora.target_modules=query,value"])
    assert list(found) == ["lora", "bitfit"]
    assert (found["lora"].r, found["lora"].lora_alpha) == (4, 16)
    assert found["lora"].target_modules == ("query", "value")


def test_every_mistake_in_methods_is_named_at_once():
    with pytest.raises(ConfigError) as error:
        method_configs(["lora", "bitft"], ["lora.rank=4", "head.modules_to_save=x"])
    text = str(error.value)
    assert "did you mean 'bitfit'?" in text
    assert "unknown setting lora.rank" in text
    assert "unknown setting head" in text


def test_sizes_below_one_are_named_at_once():
    with pytest.raises(ConfigError) as error:
        LatencyStudy("m", {}, batches=(0, 1), lengths=(-1,), rounds=0, seconds=0)
    assert error.value.problems == (
        "batch is 0; it must be at least 1",
        "length is -1; it must be at least 1",
        "rounds is 0; it must be at least 1",
        "seconds is 0; it must be above 0 and finite",
    )


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0])
def test_seconds_without_end_are_refused(seconds):
    with pytest.raises(ConfigError, match=f"seconds is {seconds}; it must be above 0 and finite"):
        LatencyStudy("m", {}, seconds=seconds)
