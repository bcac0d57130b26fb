"""Failures to write a run's files, as one error that names what, where and why.

What fails is often another library's writer, whose own words say little ("unexpected pos 576 vs
534") or whose error is of no class of its own. So the directory is asked what keeps files out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lorakit.errors import LorakitError, SaveError
from lorakit.files import obstacle

_TORCH_WRITER = re.compile("inline_container|basic_ios|iostream")  # in torch.save's RuntimeErrors
_THEN = (
    "Make room or make it writable, and run the same command again; it goes on from the last whole "
    "checkpoint."
)


@contextmanager
def writing(place: Path, directory: Path | None = None) -> Iterator[None]:
    """Raise SaveError for whatever in this block cannot be written to `place`.

    `directory`, by default the one that `place` is in, is where the files are going. An error that
    is no one's failure to write passes as it is.
    """
    try:
        yield
    except SaveError as error:
        if error.__cause__ is None:  # it was refused, and not tried
            raise
        raise SaveError(f"{error.headline} {_THEN}", error.problems) from error
    except LorakitError:
        raise
    except Exception as error:  # tokenizers raises a plain one
        why = _reason(error, directory or place.parent)
        if why is None:
            raise
        raise SaveError(f"{place} could not be written: {why}. {_THEN}") from error


def _reason(error: Exception, directory: Path) -> str | None:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    if (found := obstacle(directory)) is not None:
        return f"{found.strerror} in {directory}"
    writers = isinstance(error, OSError | SafetensorError) or _TORCH_WRITER.search(str(error))
    return str(error) if writers else None
