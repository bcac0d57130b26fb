"""A mixed file in one pass: each row's answer is what its adapter alone gives."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from lorakit.inference import evaluate, many, open_session, predict
from lorakit.inference.many.names import rows_by_name
from tests.inference.many.files import ROWS, TASKS, table_of

NAMES = [row["adapter"] for row in ROWS]


@pytest.fixture(scope="module")
def sessions(sources: dict[str, str]) -> many.Sessions:
    return many.open_many(sources)


def counted(model: nn.Module) -> list[int]:
    """The rows of each forward from now on."""
    sizes: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return sizes


def test_each_row_has_the_answer_of_its_adapter_alone(
    sessions: many.Sessions, sources: dict[str, str]
) -> None:
    table, sizes = table_of(), counted(sessions.model)
    found = many.predict(sessions, NAMES, table, "mixed")
    assert sizes == [len(ROWS)]
    for name, rows in rows_by_name(NAMES).items():
        alone = predict(open_session(sources[str(name)]), table.select(rows), "own")
        together = [found.values[row] for row in rows]
        assert together == (
            pytest.approx(alone.values, rel=1e-5) if name == "stars" else alone.values
        )
    assert {type(value) for value in found.values} == {str, float, list}


def test_each_row_has_the_probabilities_of_its_own_labels(sources: dict[str, str]) -> None:
    names = ["mood", "pairs", "topics"]
    sessions = many.open_many({name: sources[name] for name in names})
    rows = [row for row in ROWS if row["adapter"] in names]
    table = table_of(rows)
    found = many.predict(
        sessions, [row["adapter"] for row in rows], table, "mixed", probabilities=True
    )
    assert found.probabilities is not None
    for row, each in zip(rows, found.probabilities, strict=True):
        assert [*each] == [*TASKS[row["adapter"]].class_names]
    for name, at in rows_by_name([row["adapter"] for row in rows]).items():
        session = open_session(sources[str(name)])
        alone = predict(session, table.select(at), "own", probabilities=True).probabilities
        assert alone is not None
        for own, row in zip(alone, at, strict=True):
            assert found.probabilities[row] == pytest.approx(own, rel=1e-5)


def test_metrics_are_those_of_each_adapter_alone(
    sessions: many.Sessions, sources: dict[str, str]
) -> None:
    table, sizes = table_of(), counted(sessions.model)
    found = many.evaluate(sessions, NAMES, table, "mixed")
    assert sizes == [len(ROWS)]
    assert [one.adapter for one in found.adapters] == [*TASKS]
    assert (found.rows, [one.rows for one in found.adapters]) == (9, [3, 2, 2, 2])
    for one in found.adapters:
        rows = rows_by_name(NAMES)[one.adapter]
        alone = evaluate(open_session(sources[str(one.adapter)]), table.select(rows), "own")
        assert one.metrics == pytest.approx(alone.metrics, rel=1e-5, nan_ok=True)
        assert (one.task, one.source) == (alone.task, alone.source)


def test_the_model_is_the_base_and_one(sessions: many.Sessions) -> None:
    models: set[Any] = {id(member.session.model) for member in sessions.members.values()}
    assert models == {id(sessions.model)}
    assert not any(parameter.requires_grad for parameter in sessions.model.parameters())


def test_no_rows_have_no_answers(sessions: many.Sessions) -> None:
    empty = table_of().select([])
    assert many.predict(sessions, [], empty, "empty").values == []
    assert many.evaluate(sessions, [], empty, "empty").adapters == []
