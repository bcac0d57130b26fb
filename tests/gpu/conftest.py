"""The device of the tests here, and what it is not there for.

On a machine with a GPU torch and the rest have the versions that they have: a warning of theirs is
no failure here, one that lorakit gives is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.filterwarnings("error:::lorakit"))  # the last one decides


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of `--device`; the test is skipped where torch has no such device."""
    wanted = torch.device(request.config.getoption("--device"))
    found = torch.accelerator.current_accelerator(check_available=True)
    if wanted.type != "cpu" and (found is None or found.type != wanted.type):
        pytest.skip(f"torch finds no {wanted.type} device here (--device cpu runs it in small)")
    return wanted


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    """The device, where it has CUDA's streams, events and graphs."""
    if device.type != "cuda":
        pytest.skip(f"a {device.type} device has no streams and no graphs")
    return device


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Products of float32 in float32, convolutions too, where torch would take TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture
def wait(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done all that it was given."""
    return torch.accelerator.synchronize if device.type != "cpu" else lambda: None


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """What other tests compiled does not count as compiled again."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
