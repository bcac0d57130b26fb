"""Files of rows: CSV, TSV, JSON lines, Parquet, or a data set by name."""

from lorakit.tables.reading import read_table

__all__ = ["read_table"]
