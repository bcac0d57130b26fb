"""What to change where a step of a run needs more memory than there is.

Tried are a smaller token budget and gradient checkpointing, which change no result: the run's step
is planned again for each. What would change the result is named, and not tried.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from lorakit.models.dtypes import resolve_dtype
from lorakit.recipe.training_config import TrainingConfig
from lorakit.text import size_text

Settings = tuple[int, bool]
"""A token budget, and whether there is gradient checkpointing."""
Needs = Callable[[Settings], int]
"""The bytes that a step with these needs."""


def advice(
    needs: Needs, available: int, training: TrainingConfig, longest: int, can_checkpoint: bool
) -> str:
    """The settings with which a step needs no more than is available, the cheapest first.

    Each token budget is half of the one before, and no less than the `longest` row. Where none is
    enough, the least that one needs, and what else would help.
    """
    now = training.gradient_checkpointing
    budgets = [*_halves(training.token_budget, longest)]
    kinds = [now, True] if can_checkpoint and not now else [now]
    known: dict[Settings, int] = {}

    def fits(settings: Settings) -> bool:
        if settings not in known:
            known[settings] = needs(settings)
        return known[settings] <= available

    ways = [[(budget, kind) for budget in budgets] for kind in kinds]
    found = [way[bisect_left(way, True, key=fits)] for way in ways if fits(way[-1])]
    if found:
        return "enough is " + ", or ".join(_words(one, training) for one in found)
    least = min(known, key=known.__getitem__)
    return (
        f"the least that was found is {size_text(known[least])}, with {_words(least, training)}; "
        f"{', or '.join(other_ways(training))}"
    )


def untried(training: TrainingConfig, can_checkpoint: bool) -> str:
    """What helps, where there is no time to plan it."""
    ways = {
        f"lower training.token_budget (now {training.token_budget})": True,
        "set training.gradient_checkpointing to true": can_checkpoint
        and not training.gradient_checkpointing,
    }
    return ", or ".join([*(way for way, helps in ways.items() if helps), *other_ways(training)])


def other_ways(training: TrainingConfig) -> list[str]:
    """What needs less memory, and gives another result."""
    rounds = ["set training.dtype to bf16"] if resolve_dtype(training.dtype) == "fp32" else []
    return [*rounds, "shorten rows by data.max_length"]


def _words(settings: Settings, training: TrainingConfig) -> str:
    budget, checkpointing = settings
    new = {
        f"training.token_budget {budget} (now {training.token_budget})": budget
        != training.token_budget,
        "training.gradient_checkpointing true": checkpointing
        and not training.gradient_checkpointing,
    }
    return " with ".join(words for words, is_new in new.items() if is_new) or "what is set"


def _halves(budget: int, longest: int) -> Iterator[int]:
    yield budget
    while budget // 2 >= longest:
        budget //= 2
        yield budget
