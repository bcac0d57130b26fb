"""Tables of the same columns as one, row after row; each cell reads as in its own table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.errors import FormatError


def joined(tables: Mapping[str, Any], may_lack: bool = False) -> Any:
    """The rows of all tables, given by what they are called; raises FormatError as `alike` does."""
    parts = [*alike(tables, may_lack).values()]
    if len(parts) == 1:
        return parts[0]
    import datasets

    return datasets.concatenate_datasets(parts)


def alike(tables: Mapping[str, Any], may_lack: bool = False) -> dict[str, Any]:
    """The tables with the same columns, each of one type; one that has several becomes JSON.

    With `may_lack` a table may be without some columns, whose cells are then empty, as a row of
    JSON may be without some keys. Raises FormatError that lists the columns of all if they differ.
    """
    names = [*dict.fromkeys(name for table in tables.values() for name in table.column_names)]
    lacking = {
        source: [name for name in names if name not in table.column_names]
        for source, table in tables.items()
    }
    if any(lacking.values()) and not may_lack:
        raise FormatError(
            "These files are to be read as one table, and have different columns:",
            [
                f"{source}: {', '.join(table.column_names)}"
                + (f" (without {', '.join(lacking[source])})" if lacking[source] else "")
                for source, table in tables.items()
            ],
        )
    if len(tables) == 1:
        return dict(tables)
    whole = {source: _with_columns(table, lacking[source]) for source, table in tables.items()}
    kinds = {name: _common([table.features[name] for table in whole.values()]) for name in names}
    return {source: _cast(table, kinds) for source, table in whole.items()}


def _with_columns(table: Any, names: list[str]) -> Any:
    for name in names:
        table = table.add_column(name, [None] * len(table))
    return table


def _common(features: list[Any]) -> Any:
    """The only feature there is, but for columns of nothing; JSON's if there are several."""
    from lorakit.tables.json_cells import JsonCell

    filled = [feature for feature in features if getattr(feature, "dtype", None) != "null"]
    first = next(iter(filled), features[0])
    return first if all(feature == first for feature in filled) else JsonCell()


def _cast(table: Any, kinds: Mapping[str, Any]) -> Any:
    """The table with columns of these features."""
    from lorakit.tables.json_cells import as_json

    for name, kind in kinds.items():
        if getattr(table.features[name], "dtype", None) == "null":
            table = table.cast_column(name, kind)
        elif table.features[name] != kind:
            table = as_json(table, name)
    return table if table.column_names == [*kinds] else table.select_columns([*kinds])
