"""Rows of a file chunk by chunk, so that a large one needs no more memory than a chunk.

What is small stays in memory. Chunks beyond that are Arrow files in the cache of `datasets`, which
are mapped into memory and removed when the process ends. What is made of such a table, as its
tokens are, is stored beside it.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from lorakit.errors import SaveError

CHUNK = 32 * 2**20
"""Letters, or bytes, of a chunk."""
IN_MEMORY = 2 * CHUNK
"""Bytes of the rows of one source that stay in memory."""
_ROWS = 1000

Part = TypeVar("Part")
_NUMBERS = count()


def in_chunks(
    parts: Iterable[Part], size: Callable[[Part], int], most: int | None = None
) -> Iterator[list[Part]]:
    """The parts in lists of at most `most` in size (`CHUNK`), or of one part; one list at least.

    >>> [*in_chunks("aaaa", len, most=3)], [*in_chunks([], len)]
    ([['a', 'a', 'a'], ['a']], [[]])
    """
    most = CHUNK if most is None else most
    chunk: list[Part] = []
    filled = 0
    for part in parts:
        if chunk and filled + size(part) > most:
            yield chunk
            chunk, filled = [], 0
        chunk.append(part)
        filled += size(part)
    yield chunk


class Storage:
    """Keeps tables in memory as long as they are small together, and those after them on disk."""

    def __init__(self) -> None:
        self._in_memory = 0

    def put(self, table: Any) -> Any:
        """The same rows where they are kept; raises SaveError if they cannot be stored."""
        if table.cache_files:
            return table
        self._in_memory += table.data.nbytes
        return table if self._in_memory <= IN_MEMORY else _on_disk(table)


class Cells(Sequence[Any]):
    """The cells of a column, of which few are in memory at once."""

    def __init__(self, table: Any, column: str) -> None:
        self._table, self._column = table, column

    def __iter__(self) -> Iterator[Any]:
        for rows in self._table.select_columns([self._column]).iter(_ROWS):
            yield from rows[self._column]

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, row: Any) -> Any:
        return self._table[self._column][row]


def scratch_file() -> Path:
    """A new file for what is too large for memory, of a table that is on disk itself."""
    return _folder() / f"{next(_NUMBERS)}.arrow"


def _on_disk(table: Any) -> Any:
    import datasets
    import pyarrow

    content, path = table.data.table, scratch_file()
    try:
        with (
            pyarrow.OSFile(str(path), "wb") as file,
            pyarrow.ipc.new_stream(file, content.schema) as stream,
        ):
            stream.write_table(content)
    except OSError as error:
        raise SaveError(
            f"The rows do not fit into memory, and cannot be stored in {path.parent}: {error}. The "
            "environment variable HF_DATASETS_CACHE names another place."
        ) from error
    return datasets.Dataset.from_file(str(path), info=table.info)


@cache
def _folder() -> Path:
    import datasets

    place = Path(datasets.config.HF_DATASETS_CACHE)
    place.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="lorakit-", dir=place)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
