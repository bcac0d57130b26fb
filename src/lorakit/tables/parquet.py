"""Parquet as it is, without the index that pandas adds; categories become their values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError
from lorakit.tables.chunks import in_chunks
from lorakit.tables.named import require_datasets
from lorakit.tables.text_files import PACKED, opened
from lorakit.text import repeated

_ROWS = 1000
_INDEX = "__index_level_"


def parquet_tables(path: Path) -> Iterator[Any]:
    """The rows in chunks, each a `datasets.Dataset`; raises FormatError for a damaged file."""
    require_datasets()
    import pyarrow
    import pyarrow.parquet

    from lorakit.tables.json_cells import table_of_arrow

    with opened(path) as packed:
        is_packed = path.suffix.lower() in PACKED
        content = io.BytesIO(packed.read()) if is_packed else packed  # its end is read first
        if not content.read(1):
            raise FormatError(f"{path} is empty.")
        try:
            file = pyarrow.parquet.ParquetFile(content)
            if twice := repeated(file.schema_arrow.names):
                raise FormatError(f"{path} has columns of the same name: {', '.join(twice)}.")
            for batches in in_chunks(file.iter_batches(_ROWS), lambda batch: batch.nbytes):
                table = pyarrow.Table.from_batches(batches, file.schema_arrow)
                yield table_of_arrow(_plain(table))
        except pyarrow.ArrowException as error:
            raise FormatError(f"{path} cannot be read as Parquet: {error}") from error


def _plain(table: Any) -> Any:
    import pyarrow

    table = table.select([name for name in table.column_names if not name.startswith(_INDEX)])
    for i, field in enumerate(table.schema):
        if pyarrow.types.is_dictionary(field.type):
            values = table.column(i).cast(field.type.value_type)
            table = table.set_column(i, field.name, values)
    return table
