"""An address at which no Ray answers is one message, in bounded time; so is a missing package."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from lorakit.errors import ConfigError, MissingDependencyError
from lorakit.experiments.ray_runs import Share, connection, on_ray


def refusal(address: str) -> str:
    with pytest.raises(ConfigError) as found, on_ray(address, Share()):
        pass
    return str(found.value)


def test_without_ray_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'lorakit\[ray\]'"):
        on_ray("auto", Share()).__enter__()


def test_a_closed_port_is_refused_at_once(monkeypatch) -> None:
    monkeypatch.setattr(connection, "_require_cluster", None)  # not reached
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        assert refusal(address).startswith(f"No Ray cluster answers at '{address}': [Errno 111]")
        assert "Connection refused" in refusal(f"ray://{address}")


@pytest.mark.parametrize("address", ["nohost.invalid:6379", "127.0.0.1:99999"])
def test_a_host_or_port_that_cannot_be_is_refused_at_once(monkeypatch, address: str) -> None:
    monkeypatch.setattr(connection, "_require_cluster", None)  # not reached
    assert refusal(address).startswith(f"No Ray cluster answers at '{address}': ")


def test_a_server_that_is_no_ray_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(connection, "_ANSWERS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        since = time.monotonic()
        said = refusal(f"127.0.0.1:{server.getsockname()[1]}")
    assert "no answer within 1 s" in said
    assert time.monotonic() - since < 60


def test_an_address_of_another_form_is_refused_with_rays_own_words() -> None:
    assert "'nonsense': Invalid address format: nonsense." in refusal("nonsense")
