"""An adapter opened beside its base."""

from __future__ import annotations

import pytest

from tests.inference.test_batch_generation import saved_adapter
from tests.training import tiny_gpt2


@pytest.mark.usefixtures("torch_for_gpus")
def test_a_torch_for_gpus_opens_an_adapter_on_a_machine_without_one(tmp_path):
    session = saved_adapter(tiny_gpt2.save_gpt2(tmp_path / "base"), tmp_path / "adapter")
    assert session.model.device.type == "cpu"
