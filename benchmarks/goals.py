"""What lorakit promises to reach, and what the result files say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

Results = Mapping[str, Any]
"""The result files, by benchmark."""

Values = Mapping[str, float]
"""By library."""


@dataclass(frozen=True)
class Goal:
    """A number that lorakit is to reach: at most, or with `at_least` at least, the bound."""

    name: str
    benchmark: str
    bound: float
    values: Callable[[list[Any]], Values]
    at_least: bool = False

    def row(self, results: Results) -> dict[str, Any]:
        values = dict(self.values(results[self.benchmark]["rows"]))
        peers = {name: values.get(name, "") for name in ("loralib", "peft", "lorakit")}
        sign = "≥" if self.at_least else "≤"
        verdict = self.verdict(values)
        return {"goal": self.name, **peers, "bound": f"{sign} {self.bound:g}", "reached": verdict}

    def verdict(self, values: Values) -> str:
        if "lorakit" not in values:
            return "not measured"
        return "yes" if self.met(values["lorakit"]) else "no"

    def met(self, value: float) -> bool:
        """Compared as precisely as it is printed."""
        value = float(f"{value:.3g}")
        return value >= self.bound if self.at_least else value <= self.bound


def table(results: Results) -> Iterator[dict[str, Any]]:
    """A row for each goal whose benchmark has been run."""
    return (goal.row(results) for goal in GOALS if goal.benchmark in results)


def step(targets: str, dtype: str) -> Callable[[list[Any]], Values]:
    """MiniLM's step over the floor."""
    return lambda rows: medians(minilm(rows, targets, dtype))


def minilm(rows: list[Any], targets: str, dtype: str) -> Any:
    wanted = {"model": "MiniLM-L6", "targets": targets, "dtype": dtype}
    return find(rows, **wanted)


def medians(row: Any) -> Values:
    return {name: row[name]["median"] for name in ("loralib", "peft", "lorakit") if name in row}


def find(rows: list[Any], **wanted: object) -> Any:
    """The only row that has these values."""
    (row,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return row


def faster_step(rows: list[Any]) -> Values:
    return {"lorakit": minilm(rows, "all linear", "bfloat16")["peft / lorakit"]["median"]}


def most_kept(dropout: float) -> Callable[[list[Any]], Values]:
    """The largest number of a library, in float32 and bfloat16 without autocast."""

    def values(rows: list[Any]) -> Values:
        cells = [r for r in rows if r["dropout"] == dropout and "autocast" not in r["dtype"]]
        return {
            name: max(r["kept"] for r in cells if r["library"] == name)
            for name in dict.fromkeys(r["library"] for r in cells)
        }

    return values


def with_dropout(tokens: int) -> Callable[[list[Any]], Values]:
    """Time over PEFT's, median over the cells of so many tokens."""

    def values(rows: list[Any]) -> Values:
        cells = [row for row in rows if row["dropout"] and row["tokens"] == tokens]
        return {"lorakit": median(1 / row["peft / lorakit"]["median"] for row in cells)}

    return values


def review(column: str) -> Callable[[list[Any]], Values]:
    return lambda rows: {"lorakit": find(rows, variant="lorakit")[column]["median"]}


def points_lost(variant: str) -> Callable[[list[Any]], Values]:
    """Points of accuracy, mean over the seeds, that lorakit is below another variant."""

    def values(rows: list[Any]) -> Values:
        other, own = (find(rows, variant=name) for name in (variant, "lorakit"))
        return {"lorakit": 100 * (other["mean accuracy"] - own["mean accuracy"])}

    return values


def calls(column: str) -> Callable[[list[Any]], Values]:
    return lambda rows: {r["layer"]: r[column] for r in rows if r["state"] == "unmerged"}


def bits_changed(rows: list[Any]) -> Values:
    """The largest share of bfloat16 weights, over updates and seeds."""
    shares = [(r["library"], r["weights changed"]["max"]) for r in rows if r["dtype"] == "bfloat16"]
    return {name: max(s for n, s in shares if n == name) for name in dict(shares)}


def import_time(rows: list[Any]) -> Values:
    statements = {"lorakit": "import lorakit; lorakit.inject", "peft": "import peft"}
    times = {row["statement"]: row["wall"]["median"] for row in rows}
    return {name: times[text] for name, text in statements.items() if text in times}


def errors_above_head(task: str) -> Callable[[list[Any]], Values]:
    """LoRA's lead over a trained head, in standard errors over the seeds."""

    def values(rows: list[Any]) -> Values:
        row = find(rows, task=task, method="head")
        return {"lorakit": row["LoRA ahead by"] / row["standard error"]}

    return values


def bleu_gained(rows: list[Any]) -> Values:
    """BLEU after training less the base's."""
    scores = {row["variant"]: row["value"] for row in rows if row["measure"] == "bleu"}
    before = scores["base"]["median"]
    return {name: scores[name]["median"] - before for name in ("peft", "lorakit")}


def measured(name: str) -> Callable[[list[Any]], Values]:
    return lambda rows: {"lorakit": find(rows, measure=name)["value"]}


def analysed(rows: list[Any]) -> Values:
    """Seconds in float32, alone."""
    row = find(rows, dtype="float32", command="analyze")
    return {"lorakit": row["seconds"]["median"]}


def combined(column: str) -> Callable[[list[Any]], Values]:
    return lambda rows: {"lorakit": find(rows, candidate="lorakit")[column]["median"]}


def merging(rows: list[Any]) -> Values:
    """Memory over the largest shard."""
    column = "of the largest shard"
    ways = {"lorakit": "lorakit.merge_files", "peft": "peft"}
    found = {row["way"]: row[column] for row in rows}
    return {library: found[way] for library, way in ways.items() if way in found}


def with_many(what: str, loaded: int) -> Callable[[list[Any]], Values]:
    """Time with so many adapters loaded over that with one."""

    def values(rows: list[Any]) -> Values:
        row = find([r for r in rows if "loaded" in r], what=what, loaded=loaded)
        return over(row, "over 1")

    return values


def over(row: Any, what: str) -> Values:
    """The ratios of a row, by library."""
    names = {"peft": f"peft, {what}", "lorakit": f"lorakit, {what}"}
    return {name: row[column]["median"] for name, column in names.items() if column in row}


def mixed_batch(tokens: int) -> Callable[[list[Any]], Values]:
    def values(rows: list[Any]) -> Values:
        cells = [row for row in rows if "tokens" in row]
        return over(find(cells, tokens=tokens), "over one")

    return values


def wrong_rows(rows: list[Any]) -> Values:
    row = next(row for row in rows if "forwards" in row)
    return {
        name: row[column] for name in ("peft", "lorakit") if (column := f"{name}, wrong") in row
    }


def deep_load(rows: list[Any]) -> Values:
    row = next(row for row in rows if "read, ms" in row)
    return {"lorakit": row["lorakit, over read"]["median"]}


def trained_together(count: int, tokens: int) -> Callable[[list[Any]], Values]:
    wanted = {"rows of each": count, "tokens": tokens}
    return lambda rows: {"lorakit": find(rows, **wanted)["over one after another"]["median"]}


def plans_off(rows: list[Any]) -> list[float]:
    """By how much of the measured peak each plan is off."""
    return [abs(row["predicted / measured"] - 1) for row in rows]


def plans_within(share: float) -> Callable[[list[Any]], Values]:
    """The share of the cells whose plan is off by no more than this."""

    def values(rows: list[Any]) -> Values:
        off = plans_off(rows)
        return {"lorakit": sum(value <= share for value in off) / len(off)}

    return values


def worst_plan(rows: list[Any]) -> Values:
    """In percent."""
    return {"lorakit": 100 * max(plans_off(rows))}


GOALS = (
    Goal("MiniLM, step over floor: q, v, fp32", "training_step", 1.03, step("q and v", "float32")),
    Goal("the same: all linear, fp32", "training_step", 1.12, step("all linear", "float32")),
    Goal("the same: all linear, bf16", "training_step", 1.10, step("all linear", "bfloat16")),
    Goal("times faster than PEFT there", "training_step", 1.4, faster_step, at_least=True),
    Goal("bytes kept by q, k, v over the input", "kept_bytes", 1.0, most_kept(0.0)),
    Goal("the same with dropout 0.1", "kept_bytes", 1.0, most_kept(0.1)),
    *(
        Goal(f"dropout 0.1, tokens {n:,}: time over PEFT's", "operation", 1.0, with_dropout(n))
        for n in (2048, 32, 1)
    ),
    Goal("reviews: times faster than PEFT, Trainer's defaults", "reviews", 2.5,
         review("times faster"), at_least=True),
    Goal("reviews: times faster than PEFT with lorakit's settings", "reviews", 1.0,
         review("than with lorakit's settings"), at_least=True),
    Goal("reviews: points below PEFT", "reviews", 1.0, points_lost("PEFT, transformers.Trainer")),
    Goal("reviews: points below fp32", "reviews", 1.0, points_lost("lorakit, fp32")),
    Goal("Python and C calls of a forward", "forward_calls", 15, calls("calls")),
    Goal("aten operations of a forward", "forward_calls", 6, calls("aten")),
    Goal("bfloat16 weights changed by 1000 merges", "merge_cycles", 0, bits_changed),
    Goal("importing, over import torch", "imports", 1.05, import_time),
    Goal("SST-2: standard errors above a trained head", "glue", 2, errors_above_head("sst2"),
         at_least=True),
    Goal("MRPC: standard errors above a trained head", "glue", 2, errors_above_head("mrpc"),
         at_least=True),
    Goal("E2E: BLEU above the base's", "data_to_text", 0.2, bleu_gained, at_least=True),
    Goal("E2E decoding: times faster than a row a reference, padded to 512", "data_to_text_speed",
         12, measured("times faster than one row a reference padded to 512"), at_least=True),
    Goal("E2E decoding: times faster than generate in file order", "data_to_text_speed", 1.3,
         measured("times faster than generate in file order"), at_least=True),
    Goal("seconds to analyse an adapter of a 70 B model", "adapter_analysis", 60, analysed),
    *(
        Goal(f"{what} an adapter with {n} loaded, over with one", "many_adapters", 1.2,
             with_many(what, n))
        for n in (64, 512) for what in ("load", "unload", "activate", "deactivate")
    ),
    *(
        Goal(f"32 rows of 32 adapters over 32 of one, tokens {n}", "many_adapters", 1.2,
             mixed_batch(n))
        for n in (1, 32)
    ),
    Goal("wrong rows of 10,000 forwards in two threads", "many_adapters", 0, wrong_rows),
    Goal("loading into 112 layers over reading the file", "many_adapters", 3, deep_load),
    *(
        Goal(f"four adapters in one batch over one after another, {n} x {tokens} tokens each",
             "mixed_training", 0.7, trained_together(n, tokens))
        for n, tokens in ((2, 1), (2, 8), (8, 8), (8, 32))
    ),
    Goal("memory of a merge over the largest shard", "merge_files", 1.2, merging),
    Goal("combining two adapters: times faster than PEFT's svd", "adapter_algebra", 100,
         combined("times faster"), at_least=True),
    Goal("plans within 5% of a real step's peak: share of the cells", "planned_peaks", 1.0,
         plans_within(0.05), at_least=True),
    Goal("the worst of them: off by %", "planned_peaks", 5, worst_plan),
)  # fmt: skip
