"""MRPC on MiniLM: tokens a second when a batch is padded to its longest row, and to 512."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import logging

from benchmarks.glue_runs import directory_and_seeds, require_data, settings_of
from benchmarks.registry import Row, Settings, spread
from benchmarks.reviews_worker import quiet
from lorakit.recipe import data as recipe_data
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe, with_settings
from lorakit.training.model import adapt_model, load_model

BATCH, STEPS, ROUNDS, LONGEST = 16, 6, 3, 512
CONDITIONS = {
    "batch": f"{BATCH} rows, {STEPS} training steps a round, {ROUNDS} rounds in turning order",
    "padding to 512": "run_glue.py's pad_to_max_length with the scripts' max_seq_length",
    "tokens": "those of the texts, padding not counted",
    "adapter": "all linear layers and the new head, r 8, alpha 16, fp32",
}
WAYS = ("to 512", "to the batch's longest", "in micro-batches of like length")


def check(settings: Settings) -> None:
    """The data is there."""
    require_data()


def rows(settings: Settings) -> Iterator[Row]:
    """Each round computes the same steps in every way."""
    logging.set_verbosity_error()
    rounds, steps = (1, 1) if settings.quick else (ROUNDS, STEPS)
    model, tokenizer, task, examples = _prepared(settings)
    batches = [examples[i * BATCH : (i + 1) * BATCH] for i in range(steps)]
    tokens = sum(len(example["input_ids"]) for batch in batches for example in batch)
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    cells: dict[str, int] = {}
    for turn in range(rounds):
        for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
            collated = [_collated(way, task, tokenizer, batch) for batch in batches]
            cells[way] = sum(part["input_ids"].numel() for step in collated for part in step)
            rates[way].append(tokens / _seconds(model, collated))
    for way, found in rates.items():
        ratios = [rate / slow for rate, slow in zip(found, rates["to 512"], strict=True)]
        share = 1 - tokens / cells[way]
        yield {"padding": way, "tokens a second": spread(found), "times as fast": spread(ratios),
               "share of padding": share}  # fmt: skip


def _prepared(settings: Settings) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
    with directory_and_seeds(settings) as (directory, _):
        given = [*settings_of("mrpc", 0, settings.quick, directory), "training.dtype=fp32"]
        mapping = with_settings(load_recipe(recipe_file("glue-minilm")), given)
        recipe = recipe_data.with_guesses(from_mapping(mapping), quiet)
        table = recipe_data.split(recipe.data)["train"].select(range(BATCH * STEPS))
        tokenizer, task = recipe_data.prepare(recipe, table)
        encoded, _ = recipe_data.encode(task, tokenizer, table, "train", quiet)
        model, head = load_model(recipe, task)
        adapt_model(recipe, model, head)
        return model.train(), tokenizer, task, [dict(row) for row in encoded]


def _collated(
    way: str, task: Any, tokenizer: Any, batch: list[dict[str, Any]]
) -> list[dict[str, torch.Tensor]]:
    """The micro-batches of one step."""
    from lorakit.training.micro_batches import MicroBatches

    if way == "in micro-batches of like length":
        return MicroBatches(lambda part: task.collate(tokenizer, part), 4096)(batch)[
            "micro_batches"
        ]
    collated = task.collate(tokenizer, batch)
    if way == "to 512":
        width = LONGEST - collated["input_ids"].shape[1]
        fill = {"input_ids": tokenizer.pad_token_id}
        collated = {
            name: torch.nn.functional.pad(value, (0, width), value=fill.get(name, 0))
            if value.ndim == 2
            else value
            for name, value in collated.items()
        }
    return [collated]


def _seconds(model: Any, steps: list[list[dict[str, torch.Tensor]]]) -> float:
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    started = time.perf_counter()
    for step in steps:
        for part in step:
            model(**part).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started
