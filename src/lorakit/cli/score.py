"""`lorakit score --task TASK --predictions FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli.output import Json, show


def score(
    task: Annotated[
        str, typer.Option(metavar="TASK", help="Whose metrics: e2e, webnlg, dart or data_to_text.")
    ],
    predictions: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Generated texts: one a line, or the file that `lorakit generate` writes.",
        ),
    ],
    references: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="References: one file with all of them, or repeat it for files with one reference "
            "a line.",
            show_default="the column references of --predictions",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score generated texts with the metrics of a task's official scripts.

    Needs the extra nlg, and Java for METEOR. The texts may be those of any system.

    Example: `lorakit score --task e2e --predictions texts.txt --references references.txt`
    """
    from lorakit.metrics import data_to_text
    from lorakit.metrics.java import missing_java
    from lorakit.tasks.outputs import read_outputs

    data_to_text.check_task(task)
    texts, truth = read_outputs(task, predictions, references or ())
    metrics = data_to_text.score(task, texts, truth.references, truth.seen)
    missing = missing_java()
    notes = [f"METEOR is not computed: {missing}."] if missing else []
    if json:
        show({"task": task, "texts": len(texts), "metrics": metrics, "notes": notes}, json)
    else:
        show("\n".join([f"{task}, {len(texts)} texts", *data_to_text.lines(metrics), *notes]), json)
