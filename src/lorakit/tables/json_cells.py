"""Cells of any JSON value in a table that is stored by Arrow.

Arrow gives a column one type: of objects with different keys it makes objects with all keys, it has
no type for a number and a list, none for integers above 64 bits, none for half of a surrogate pair,
and few levels of lists in each other. A column of such values is stored as JSON text, and each cell
reads as it was written.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import datasets
import pyarrow
from datasets.features.features import generate_from_arrow_type, register_feature

from lorakit.foreign_files import is_deeper
from lorakit.tables.cells import is_scalar

_DEEPEST = 16
"""Levels of a column with a type: Arrow holds 64, and `datasets` takes many calls for each."""


@dataclass
class JsonCell:
    """A feature of `datasets`: any JSON value, stored as its text.

    `datasets.Json` is not exact: it reads the string "1" as a number and rounds floats.
    """

    id: str | None = field(default=None, repr=False)
    pa_type: ClassVar[Any] = pyarrow.string()
    _type: str = field(default="JsonCell", init=False, repr=False)

    def __call__(self) -> Any:
        return self.pa_type

    def encode_example(self, value: Any) -> str | None:
        """The cell's text, in ASCII; what JSON does not know, such as a date, as a string."""
        return None if value is None else json.dumps(value, default=str)

    def decode_example(self, value: str | None, token_per_repo_id: Any = None) -> Any:
        """The cell's value."""
        return None if value is None else json.loads(value)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # that the function is experimental
    register_feature(JsonCell, JsonCell.__name__)


def table_of(columns: Mapping[str, Sequence[Any]]) -> Any:
    """A `datasets.Dataset` of these columns, whatever their values."""
    plain = {name: _array(values) for name, values in columns.items()}
    stored = {
        name: _texts(columns[name]) if array is None else array for name, array in plain.items()
    }
    return _dataset(pyarrow.table(stored), [name for name in plain if plain[name] is None])


def table_of_arrow(table: Any) -> Any:
    """A `datasets.Dataset` of an Arrow table, also of types that `datasets` does not know."""
    cells = [field.name for field in table.schema if not _is_known(field)]
    for name in cells:
        texts = _texts(map(_without_nulls, table.column(name).to_pylist()))
        table = table.set_column(table.column_names.index(name), name, texts)
    return _dataset(table, cells)


def with_own_keys(table: Any) -> Any:
    """The `datasets.Dataset` in which each object has its own keys only, at any depth.

    Arrow has added the keys of all of them, without a value; so keys without a value are left out.
    """
    names = table.column_names
    for name, feature in table.features.items():
        if _has_objects(feature):
            table = as_json(table, name, _without_nulls)
    return table.select_columns(names)


def as_json(table: Any, name: str, change: Callable[[Any], Any] = lambda value: value) -> Any:
    """The table with a column stored as JSON, each cell as `change` makes it; it stands last."""
    new, texts = f"{name} as JSON", _texts(map(change, table[name]))
    # before the old one is removed: a table without columns has no rows
    table = table.add_column(new, texts, feature=JsonCell())
    return table.remove_columns(name).rename_column(new, name)


def _array(values: Sequence[Any]) -> Any:
    """The values as an Arrow array; None if Arrow cannot hold each as it is."""
    if any(is_deeper(value, _DEEPEST) for value in values if not is_scalar(value)):
        return None
    try:
        array = pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
        return None
    feature = generate_from_arrow_type(array.type)
    return None if _has_objects(feature) or array.to_pylist() != list(values) else array


def _texts(values: Iterable[Any]) -> Any:
    cell = JsonCell()
    return pyarrow.array([cell.encode_example(value) for value in values], cell.pa_type)


def _dataset(table: Any, cells: Sequence[str]) -> Any:
    features = datasets.Features.from_arrow_schema(table.schema)
    features |= {name: JsonCell() for name in cells}
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features))


def _is_known(field: Any) -> bool:
    """Whether `datasets` has a feature for the Arrow field's type, and it is not too deep."""
    if _is_deep(field.type):
        return False
    try:
        generate_from_arrow_type(field.type)
    except ValueError:
        return False
    return True


def _is_deep(kind: Any) -> bool:
    """Whether an Arrow type has more levels than a column with a type may have."""
    level = [kind]
    for _ in range(_DEEPEST):
        level = [outer.field(i).type for outer in level for i in range(outer.num_fields)]
    return bool(level)


def _has_objects(feature: Any) -> bool:
    """Whether the cells of a feature are objects or lists of objects, at any depth."""
    if isinstance(feature, datasets.List | datasets.LargeList):
        return _has_objects(feature.feature)
    return isinstance(feature, dict)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value
