"""Which parameter each wrapper in a file of PEFT is for."""

from __future__ import annotations

import time

import pytest
import torch

from lorakit.checkpoint.formats.peft.decoding import decode
from lorakit.checkpoint.formats.peft.layout import PeftFiles
from lorakit.checkpoint.formats.peft.parameters import parameter_names
from lorakit.config import LoraConfig
from lorakit.errors import FormatError

EXPERTS = ["0.experts", "0.experts.base_layer"]
BOTH = {"0.experts": "0.experts.down_proj", "0.experts.base_layer": "0.experts.gate_up_proj"}
CASES = {
    "with the module": (EXPERTS, ["experts.gate_up_proj", "experts.down_proj"], [], BOTH),
    "alone": (EXPERTS, ["gate_up_proj", "down_proj"], [], BOTH),
    "beside layers": (["0.q", *EXPERTS], ["gate_up_proj", "down_proj"], ["q"], BOTH),
    "a regular expression": (["0.q", *EXPERTS], ["gate_up_proj", "down_proj"], ".*q", BOTH),
    "one beside layers": (
        ["0.q", "0.experts"],
        ["down_proj"],
        ["q"],
        {"0.experts": "0.experts.down_proj"},
    ),
    "a router beside": (
        ["0.gate", *EXPERTS],
        ["gate_up_proj", "down_proj", "gate.weight"],
        [],
        {"0.gate": "0.gate.weight", **BOTH},
    ),
    "one of a layer": (["0.q"], ["q.weight"], [], {"0.q": "0.q.weight"}),
    "one layer": (["0.e", "1.e"], ["0.e.w"], ["e"], {"0.e": "0.e.w"}),
}


@pytest.mark.parametrize(("wrappers", "parameters", "modules", "names"), CASES.values(), ids=CASES)
def test_wrappers_are_told_apart_by_the_config(
    wrappers: list[str], parameters: list[str], modules: list[str] | str, names: dict[str, str]
) -> None:
    config = LoraConfig(target_parameters=parameters, target_modules=modules)
    assert parameter_names(wrappers, config) == (names, [])


WRONG = {
    "too few": (["0.experts"], "0.experts has 1 adapters, and target_parameters names 2"),
    "a gap": (["0.experts", f"{EXPERTS[1]}.base_layer"], "0.experts has 2 adapters"),
    "none": (["0.other"], "has no adapter of one of them"),
}


@pytest.mark.parametrize(("wrappers", "message"), WRONG.values(), ids=WRONG)
def test_wrappers_that_do_not_fit_the_config_are_named(wrappers: list[str], message: str) -> None:
    parameters = ["experts.gate_up_proj", "experts.down_proj"]
    config = LoraConfig(target_parameters=parameters, target_modules=[])
    names, problems = parameter_names(wrappers, config)
    assert not names
    assert message in problems[0]


def test_a_stranger_s_config_with_many_names_takes_bounded_time() -> None:
    wrappers = [f"{layer}.experts" for layer in range(1000)]
    many = [f"experts.w{n}" for n in range(50_000)] + [f"{n}.experts.w" for n in range(50_000)]
    config = LoraConfig(target_parameters=many, target_modules=[f"m{n}" for n in range(50_000)])
    start = time.perf_counter()
    _, problems = parameter_names(wrappers[:5], config)
    assert len(problems[0]) < 200
    parameter_names(wrappers, LoraConfig(target_parameters=many[50_000:], target_modules=[]))
    assert time.perf_counter() - start < 5


def test_a_parameter_that_is_a_module_too_is_refused() -> None:
    pair = {"lora_A.weight": torch.ones(2, 4), "lora_B.weight": torch.ones(4, 2)}
    tensors = {
        f"base_model.model.{module}.{leaf}": tensor
        for module in ("0.e", "0.e.w")
        for leaf, tensor in pair.items()
    }
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["w"], "target_parameters": ["e.w"]}
    with pytest.raises(FormatError, match=r"0\.e\.w is adapted twice"):
        decode(PeftFiles(config, tensors, None))
