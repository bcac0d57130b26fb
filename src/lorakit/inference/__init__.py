"""A finished run or an adapter, opened as a session: predict, evaluate, generate and submit.

`open_session` gives a `Session`, and each of these is a function of it.
"""

from lorakit.inference.generation import generate_rows, generate_texts
from lorakit.inference.prediction import evaluate, predict
from lorakit.inference.session import LoadOptions, Session, open_session

__all__ = [
    "LoadOptions",
    "Session",
    "evaluate",
    "generate_rows",
    "generate_texts",
    "open_session",
    "predict",
]
