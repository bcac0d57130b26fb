"""Many adapters on one base as one session: each row by its adapter, as that alone would have it.

`open_many` gives `Sessions`; each of the others is a function of it, of rows, and of the name of
each row's adapter.
"""

from lorakit.inference.many.evaluation import evaluate, evaluate_own
from lorakit.inference.many.generation import (
    generate_own,
    generate_rows,
    generate_texts,
    require_texts,
    stream_text,
)
from lorakit.inference.many.names import names_by_row
from lorakit.inference.many.own_tables import own_tables
from lorakit.inference.many.prediction import predict, require_predictions
from lorakit.inference.many.sessions import Sessions, load_many, open_many, read_many

__all__ = [
    "Sessions",
    "evaluate",
    "evaluate_own",
    "generate_own",
    "generate_rows",
    "generate_texts",
    "load_many",
    "names_by_row",
    "open_many",
    "own_tables",
    "predict",
    "read_many",
    "require_predictions",
    "require_texts",
    "stream_text",
]
