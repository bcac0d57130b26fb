"""GLUE's test sets, each predicted by the adapter for its task, in the files of the test server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lorakit.errors import ConfigError
from lorakit.inference.glue_submission import ServerFile, ServerSet, server_sets
from lorakit.inference.many.mixing import Described
from lorakit.inference.many.parts import own_parts
from lorakit.inference.many.prediction import predict_parts, require_predictions
from lorakit.inference.many.sessions import Sessions

ServerSets = Mapping[str, Sequence[ServerSet]]
"""Of each adapter's task, by its name."""


def read_server_sets(
    described: Described, source: str, directory: Path, overwrite: bool = False
) -> ServerSets:
    """The test sets of the adapters' tasks in `source`, see `glue_submission.server_sets`.

    Raises ConfigError that lists the adapters which are for no task of GLUE, or for the same one.
    """
    found, problems, owners = {}, [], dict[Path, str]()
    for name, one in described.items():
        try:
            found[name] = server_sets(one, source, directory, overwrite)
        except ConfigError as error:
            problems.append(f"{name}: {error}")
            continue
        for file in (test_set.file for test_set in found[name]):
            if (owner := owners.setdefault(file, name)) != name:
                problems.append(f"{owner} and {name} are both for {file.name}")
    if problems:
        raise ConfigError("These adapters cannot write one submission:", problems)
    return found


def write_server_files(
    sessions: Sessions, sets: ServerSets, progress: bool = False
) -> list[ServerFile]:
    """Predict them, in batches of all, and write a file for each.

    Raises ConfigError for an adapter that predicts nothing, and SaveError for a file that cannot be
    written.
    """
    require_predictions(sessions.opened)
    tables = {name: {one.split: one.table for one in own} for name, own in sets.items()}
    parts = own_parts(sessions, tables, labelled=False)
    found = predict_parts(sessions, parts, progress)
    each = (one for own in sets.values() for one in own)
    return [one.write(answers) for one, answers in zip(each, found, strict=True)]
