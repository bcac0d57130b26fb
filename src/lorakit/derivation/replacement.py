"""An adapter written where another one may be: new as a whole, or what was there stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from lorakit.checkpoint import Codec
from lorakit.errors import SaveError
from lorakit.files import undone_on_error
from lorakit.locks import reserved


@contextmanager
def replacement(place: Path, codec: Codec) -> Iterator[None]:
    """Write an adapter of this format to `place`; what was there is there again on an error.

    Nobody else writes into a directory meanwhile. Raises SaveError that names who does already, and
    for what cannot be written.
    """
    is_directory = codec.files and not place.is_file()
    try:
        with reserved(place) if is_directory else nullcontext(), undone_on_error(place):
            yield
    except SaveError:
        raise
    except OSError as error:
        raise SaveError(f"{place} could not be written: {error}") from error
