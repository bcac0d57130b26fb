"""One table in every form, read back where a reader for it is at hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from lorakit.experiments.renderers import RENDERERS
from lorakit.experiments.table import Cell, Column, Failure, Published, Row, Table

PUBLISHED = Published(0.902, 0.007, "Hu et al. 2022, table 2")
TABLE = Table(
    columns=(Column("mrpc", "accuracy"), Column("e2e", "nist")),
    rows=(
        Row(
            "full_100%",
            "tiny",
            (
                Cell((0, 1), (0.85, 0.87), 0.86, 0.0141, p_value=0.4, is_noise=True),
                Cell(failed=2),
            ),
            22_713_986,
            90_867_920,
            79.6,
            2_226_610_176,
        ),
        Row(
            "lora, lora.r=4",
            "tiny",
            (
                Cell((0, 1), (0.88, 0.9), 0.89, 0.0141, is_best=True, published=PUBLISHED),
                Cell((0,), (8.412,), 8.412, missing=1, is_best=True),
            ),
            338_690,
            1_366_088,
            62.0,
        ),
    ),
    reference="lora, lora.r=4",
    failures=(Failure("tiny/e2e/full_100% seed 0", "The loss is not finite:\n  - step 3"),),
    notes=("a note",),
)


def test_text_is_aligned_and_marked() -> None:
    head, full, lora, *notes = RENDERERS["txt"](TABLE).splitlines()
    assert head.index("e2e") == full.index("failed") == lora.index("8.41")
    assert full.split("  ")[0] == "full_100%"
    assert " 86.0 ± 1.4 ~ " in full
    assert lora.startswith("lora, lora.r=4  89.0 ± 1.4* [90.2 ± 0.7]  8.41* (1 to run) ")
    assert lora.split()[-4:] == ["338,690", "1.37", "MB", "62"]
    assert notes == [
        "mean ± standard deviation over 1 to 2 seeds; * is the best of its column",
        "~ differs from lora, lora.r=4 by what noise could explain (Welch's t-test, two-sided, 5%, "
        "not corrected for the number of comparisons)",
        "a note",
        "[ ] published: Hu et al. 2022, table 2",
        "failed: tiny/e2e/full_100% seed 0: The loss is not finite:",
        "  - step 3",
    ]


def test_markdown_is_a_table_of_as_many_columns_with_the_best_in_bold() -> None:
    text = RENDERERS["md"](replace(TABLE, notes=("a | b",)))
    html = MarkdownIt().enable("table").render(text)
    assert html.count("<th") == 7 + 1  # thead
    assert html.count("<td") == 2 * 7
    assert "<strong>89.0 ± 1.4</strong> [90.2 ± 0.7]" in html
    assert "86.0 ± 1.4 ~" in html
    assert "<li>failed: tiny/e2e/full_100% seed 0: The loss is not finite: - step 3</li>" in html


def test_a_bar_in_a_name_does_not_end_a_cell_of_markdown() -> None:
    row = replace(TABLE.rows[0], name="a|b")
    html = MarkdownIt().enable("table").render(RENDERERS["md"](replace(TABLE, rows=(row,))))
    assert ">a|b</td>" in html


def test_csv_has_a_line_for_each_cell_and_rounds_nothing() -> None:
    lines = list(csv.DictReader(io.StringIO(RENDERERS["csv"](TABLE))))
    assert [(line["method"], line["task"]) for line in lines] == [
        ("full_100%", "mrpc"), ("full_100%", "e2e"),
        ("lora, lora.r=4", "mrpc"), ("lora, lora.r=4", "e2e"),
    ]  # fmt: skip
    assert float(lines[0]["center"]) == 0.86
    assert (lines[0]["p_value"], lines[0]["noise"], lines[0]["runs"]) == ("0.4", "True", "2")
    assert (lines[1]["center"], lines[1]["failed"]) == ("", "2")
    assert (lines[2]["published"], lines[2]["source"]) == ("0.902", PUBLISHED.source)
    assert (lines[3]["missing"], lines[3]["peak_memory_bytes"]) == ("1", "")


def test_json_has_every_field() -> None:
    found = json.loads(RENDERERS["json"](TABLE))
    assert found["columns"] == [
        {"task": "mrpc", "metric": "accuracy"}, {"task": "e2e", "metric": "nist"},
    ]  # fmt: skip
    assert found["rows"][1]["cells"][0]["published"]["value"] == 0.902
    assert found["rows"][0]["cells"][0]["values"] == [0.85, 0.87]
    assert found["failures"][0]["error"].startswith("The loss")


def test_latex_escapes_what_it_would_read_and_marks_the_best() -> None:
    text = RENDERERS["tex"](TABLE)
    assert r"full\_100\% & 86.0 $\pm$ 1.4$^{\sim}$ & failed & 22,713,986" in text
    assert (
        r"lora, lora.r=4 & \textbf{89.0 $\pm$ 1.4} [90.2 $\pm$ 0.7] & \textbf{8.41} (1 to run)"
        in text
    )
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [line.count("&") for line in body] == [6, 6, 6]
    assert r"\begin{tabular}{lrrrrrr}" in text
    assert all(line.startswith("%") for line in text.splitlines()[:4])


@pytest.mark.parametrize("ending", RENDERERS)
def test_a_table_without_rows_is_written(ending: str) -> None:
    assert isinstance(RENDERERS[ending](Table((), ())), str)


@pytest.mark.parametrize("ending", ["txt", "md", "tex"])
def test_several_bases_are_a_column_and_one_run_a_row_is_named(ending: str) -> None:
    one = replace(TABLE.rows[0], sources=("runs/a",))
    other = replace(TABLE.rows[1], base="large", sources=("runs/b",))
    text = RENDERERS[ending](replace(TABLE, rows=(one, other)))
    assert "large" in text
    assert "runs/b" in text
    text = RENDERERS[ending](replace(TABLE, rows=(replace(one, sources=("a", "b")), other)))
    assert "runs/b" not in text
