"""The way to a Ray cluster: an address that answers in time, or why it does not."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from types import ModuleType

from lorakit.errors import ConfigError, MissingDependencyError
from lorakit.experiments.ray_runs.cluster import Cluster, Share

_LISTENS, _ANSWERS = 10, 60
"""Seconds until a port, a cluster has to have answered."""
_PROBE = """
import sys, ray
try:
    ray.init(sys.argv[1], logging_level="CRITICAL", log_to_driver=False)
except Exception as error:
    print(error)
    sys.exit(1)
"""
"""Tried in a process of its own, since Ray goes on asking and cannot be told when to give up."""


@contextmanager
def connected(address: str, share: Share, variables: Mapping[str, str]) -> Iterator[Cluster]:
    """The cluster at `address`; its processes have these environment variables beside their own.

    Meanwhile standard output goes to standard error, since Ray tells of lost nodes there. At the
    end Ray ends whatever still runs.

    Raises MissingDependencyError without Ray, ConfigError if the address does not answer in time.
    """
    ray = _imported()
    _require_listener(address)
    _require_cluster(address)
    with redirect_stdout(sys.stderr):
        ray.init(
            address,
            logging_level="CRITICAL",
            log_to_driver=False,
            runtime_env={"env_vars": dict(variables)},
        )
        try:
            yield Cluster(ray, share)
        finally:
            ray.shutdown()


def _imported() -> ModuleType:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Runs on a Ray cluster need the package ray: pip install 'lorakit[ray]'"
        ) from error
    return ray


def _require_listener(address: str) -> None:
    """Raise ConfigError if it is host and port, and nothing listens there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _require_cluster(address: str) -> None:
    """Raise ConfigError if a process that connects does not succeed in time."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            capture_output=True,
            text=True,
            timeout=_ANSWERS,
        )
    except subprocess.TimeoutExpired as error:
        raise _no_cluster(address, f"no answer within {_ANSWERS} s") from error
    if tried.returncode:
        lines = (tried.stdout.strip() or tried.stderr.strip()).splitlines()
        raise _no_cluster(address, " ".join(lines[-5:]) or f"exit code {tried.returncode}")


def _no_cluster(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"No Ray cluster answers at {address!r}: {reason}. Name the host and port that "
        "`ray start --head` has printed, from a machine of the cluster, or auto for the one that "
        "runs on this machine."
    )
