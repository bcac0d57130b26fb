"""Files of rows: CSV, TSV, JSON lines, Parquet, or a data set by name."""

from lorakit.tables.reading import read_table
from lorakit.tables.readings import Reading, reading_of

__all__ = ["Reading", "read_table", "reading_of"]
