"""The checksum of a safetensors file that lorakit writes: a SHA-256 in the file's own header.

It covers every tensor (name, dtype, shape, bytes) and all other metadata, so a file that changed by
a single bit on a disk or on its way is refused instead of loaded. A file without one is another
tool's, or an earlier lorakit's, and is read as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Thread

from torch import Tensor

from lorakit.digests import Buffer, prepared_digest, tensors_digest
from lorakit.errors import FormatError

CHECKSUM = "lorakit_checksum"


def with_checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The metadata, and the checksum of these contiguous CPU tensors and of the metadata."""
    return {**metadata, CHECKSUM: tensors_digest(tensors, _heading(metadata))}


class _Check(Thread):
    """One that runs beside what comes next; `start` returns once it runs."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__(name="lorakit-checksum", daemon=True)
        self._check = check
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._check()
        except Exception as error:  # raised where it is waited for
            self._error = error

    def result(self) -> None:
        """Wait for it, and raise what it raised."""
        self.join()
        if self._error is not None:
            raise self._error


_BESIDE: ContextVar[list[_Check] | None] = ContextVar("checksum.beside", default=None)


@contextmanager
def checked_beside() -> Iterator[None]:
    """Inside, `require_intact` returns at once, and leaving raises what it finds meanwhile.

    A hash costs more than to read a file, and leaves this thread free for what comes next. Inside
    of another such context it is the outer one that waits.
    """
    if _BESIDE.get() is not None:
        yield
        return
    checks: list[_Check] = []
    before = _BESIDE.set(checks)
    try:
        yield
    finally:
        _BESIDE.reset(before)
        for check in checks:
            check.result()  # where both fail, damage is the reason


def require_intact(
    file: Path,
    metadata: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    content: Mapping[str, Buffer] | None = None,
) -> None:
    """Raise FormatError if the file has a checksum, and it is another one than its content's.

    `content` has the bytes of each tensor in the file, if they are in memory.
    """
    if CHECKSUM not in metadata:
        return
    digest = prepared_digest(tensors, _heading(metadata), content)

    def check() -> None:
        if metadata[CHECKSUM] != digest():
            raise FormatError(
                f"{file} is damaged: its content is not what was saved (the checksum in its header "
                "differs). Copy or download it again."
            )

    checks = _BESIDE.get()
    if checks is None:
        check()
    else:
        checks.append(_Check(check))
        checks[-1].start()


def _heading(metadata: Mapping[str, str]) -> str:
    others = sorted((key, text) for key, text in metadata.items() if key != CHECKSUM)
    return "".join(f"{key!r} {text!r}\n" for key, text in others)
