"""Files of rows: CSV, TSV, JSON lines, Parquet, or a data set by name."""
