"""A page with one of everything, and names that no page should trust."""

from __future__ import annotations

from lorakit.pages import Cell, Figure, Listing, Note, Page, Section, Table, number
from lorakit.pages.content import Column
from lorakit.pages.figures import Axis, Point, Series, bars, dots, heat_map, lines, scatter

HOSTILE = "<script>document.title = 'taken'</script><img src=http://example.org/x.png>"
METHODS = ("full", "lora", HOSTILE)


def sample_page() -> Page:
    return Page(
        title="Three methods & one task",
        lead="A lead with <b>letters</b> that HTML knows.",
        sections=[
            Section("Scores", ["A paragraph.", scores(), score_figure(), rank_figure()]),
            Section("Costs", [cost_figure(), Listing("Settings", "method: lora\nr: <8>")]),
            Section("Subspaces", [heat_figure()]),
        ],
        notes=[Note("The paper.", "https://arxiv.org/abs/2106.09685"), Note("No source.")],
        provenance=[("Command", "lorakit compare <sweep>"), ("Date", "2026-01-02")],
    )


def scores() -> Table:
    columns = ["method", "trainable", Column("accuracy", "MRPC"), Column("F1", "MRPC"), "remark"]
    rows = [
        [method, number(10**at, ",.0f"), accuracy, number(None), remark]
        for at, (method, accuracy, remark) in enumerate(
            zip(
                METHODS,
                [
                    Cell("87.6 ± 0.4", 87.6, below="published 88.1"),
                    Cell("90.2 ± 0.3", 90.2, best=True),
                    Cell("9.5", 9.5, marks="†"),
                ],
                ["", "", Cell("failed", details=f"Traceback\n{HOSTILE}\n{'x' * 300}")],
                strict=True,
            )
        )
    ]
    legend = [("†", "noise could explain it"), ("bold", "the best")]
    return Table("Means of three seeds.", columns, rows, legend)


def score_figure() -> Figure:
    ours = Series(
        "ours", [Point(m, 0.8 + at / 50, 0.78, 0.9, (0.79, 0.85)) for at, m in enumerate(METHODS)]
    )
    published = Series("published", [Point("lora", 0.9)], hollow=True)
    panels = [dots([ours, published], Axis("accuracy"), title) for title in ("MRPC", "SST-2")]
    return Figure("Scores.", "Dots of three methods: LoRA is ahead.", panels)


def rank_figure() -> Figure:
    series = [
        Series(method, [Point(rank, 0.8 + at / 99, 0.79, 0.85) for rank in (1, 2, 8)])
        for at, method in enumerate(METHODS)
    ]
    x = Axis("rank", log=True)
    return Figure(
        "Ranks.", "Lines.", [lines(series, x, Axis("F1")), scatter(series, x, Axis("F1"))]
    )


def cost_figure() -> Figure:
    seconds = [Series("seconds", [Point(method, 10.0 * len(method)) for method in METHODS])]
    return Figure("Costs.", "Bars.", [bars(seconds, Axis("seconds"), "Time", "{:.0f} s".format)])


def heat_figure() -> Figure:
    values = [[1 / (1 + i + j) for j in range(40)] for i in range(4)]
    sides = [("i", [str(i + 1) for i in range(4)]), ("j", [str(j + 1) for j in range(40)])]
    return Figure(
        "Similarity.", "The first direction is shared.", [heat_map(values, *sides, (0, 1))]
    )
