"""What one of several devices holds, at the peak of a planned step."""

from __future__ import annotations

import json

import lorakit as lora
from lorakit.planner.recording import ACTIVATIONS, BASE, GRADIENTS, STATE, TEMPORARY, TRAINED
from tests.planner.devices.models import LORA, SMALL


def device(method, devices, parallel, **settings):
    config = LORA if method == "lora" else None
    return lora.plan(
        SMALL, method, config, batch=2, length=16, devices=devices, parallel=parallel, **settings
    ).device


def test_one_device_has_no_plan_of_several():
    assert lora.plan(SMALL, "lora", LORA, length=8).device is None


def test_ddp_holds_what_one_device_does_and_its_buckets():
    plan = lora.plan(SMALL, "lora", LORA, batch=2, length=16, devices=4)
    trained = plan.bytes_by[TRAINED]
    assert plan.device.bytes_by == {**plan.bytes_by, "communication": trained}


def test_fsdp_holds_a_part_of_weights_and_state_and_all_activations():
    plan = lora.plan(SMALL, "full", batch=8, length=64, dtype="fp32", devices=2, parallel="fsdp")
    found = plan.device.bytes_by
    assert found[TRAINED] == 189_216  # 4 bytes of half of 94,512 values, some rows padded
    assert found[STATE] == 2 * 189_216 + 4 * 30  # two moments, and a count for each tensor
    for kind in (ACTIVATIONS, TEMPORARY):
        assert found[kind] == plan.bytes_by[kind]


def test_fsdp_of_a_small_batch_peaks_where_gradients_are():
    found = device("full", 8, "fsdp", optimizer="sgd")
    assert found.peak.phase in ("backward", "clipping")
    assert found.bytes_by[GRADIENTS] <= found.bytes_by[TRAINED]


def test_more_devices_hold_less_each():
    two, four = (device("lora", devices, "fsdp").bytes_by for devices in (2, 4))
    for kind in (BASE, TRAINED, STATE):
        assert four[kind] < 0.6 * two[kind]


def test_tp_holds_a_part_of_the_activations():
    plan = lora.plan(SMALL, "lora", LORA, batch=2, length=16, devices=2, parallel="tp")
    found, alone = plan.device.bytes_by, plan.bytes_by
    assert alone[ACTIVATIONS] / 2 < found[ACTIVATIONS] < alone[ACTIVATIONS]
    assert found[BASE] < alone[BASE]


def test_json_names_each_formula_and_its_source():
    values = device("lora", 2, "fsdp").to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["by"] == "formula"
    assert all("torch" in one["source"] for one in values["formulas"])
