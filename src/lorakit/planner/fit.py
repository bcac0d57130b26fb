"""`lorakit.plan_to_fit`: what to change so that a training step fits into a memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorakit.config.sizes import Size, size_of
from lorakit.errors import PlanError
from lorakit.planner.bases import model_of
from lorakit.planner.changes import CHANGES, EFFECTS, SAME, changed
from lorakit.planner.plan import Plan
from lorakit.planner.planning import Step, model_step
from lorakit.planner.relative_time import relative_time
from lorakit.planner.search import Search, on_device
from lorakit.planner.settings import StepSettings
from lorakit.text import size_text, table


@dataclass(frozen=True)
class Answer:
    """A step that fits."""

    plan: Plan
    asked: Plan

    @property
    def peak_bytes(self) -> int:
        """At the peak, on each device."""
        return on_device(self.plan).peak_bytes

    @property
    def changes(self) -> list[str]:
        """What is other than in the step that was asked for."""
        step = self.plan.settings
        return [one.words(step) for one in changed(step, self.asked.settings)]

    @property
    def recipe(self) -> list[str]:
        """The changes as settings of a recipe, as far as it has them."""
        step, asked = self.plan.settings, self.asked.settings
        settings = [(one.recipe(step), one.recipe(asked)) for one in CHANGES.values()]
        return [new for new, old in settings if new is not None and new != old]

    @property
    def has_recipe(self) -> bool:
        """Whether a recipe has all of the changes."""
        step = self.plan.settings
        return all(one.recipe(step) for one in changed(step, self.asked.settings))

    @property
    def effect(self) -> str:
        """What the changes do to what is learned, by the strongest: one of `EFFECTS`."""
        return EFFECTS[self._effect]

    @property
    def _effect(self) -> int:
        effects = [one.effect for one in changed(self.plan.settings, self.asked.settings)]
        return max(effects, default=SAME)

    @property
    def time(self) -> float:
        """Of all rows of a step, over the time of the step that was asked for: an estimate."""
        trained = self.asked.trainable_parameters / self.asked.total_parameters
        return relative_time(self.plan.settings, self.asked.settings, trained)

    @property
    def cost(self) -> tuple[int, float, int]:
        """What is worse comes later: the effect, then the time, then the memory."""
        return self._effect, self.time, self.peak_bytes

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("changes", "recipe", "effect", "time")
        return {**{name: getattr(self, name) for name in names}, "plan": self.plan.to_dict()}


@dataclass(frozen=True)
class Fit:
    """What makes a training step fit into a memory."""

    memory: int
    """Bytes."""
    asked: Plan
    """The step that was asked for."""
    answers: tuple[Answer, ...]
    """The steps that fit, the cheapest first: the one that was asked for alone, if it fits."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        answers = [answer.to_dict() for answer in self.answers]
        return {"memory": self.memory, "asked": self.asked.to_dict(), "answers": answers}

    def __str__(self) -> str:
        over = on_device(self.asked).peak_bytes - self.memory
        fits = f"{size_text(abs(over))} {'too much for' if over > 0 else 'to spare of'}"
        asked = self.asked
        head = (
            f"{asked.model}, {asked.settings.method}, a step of {asked.settings.step}: "
            f"{size_text(self.memory + over)} at the peak, {fits} {size_text(self.memory)}"
        )
        return "\n".join([head, *(self._answers() if over > 0 else [])])

    def _answers(self) -> list[str]:
        rows = [
            (
                ", ".join(answer.changes),
                size_text(answer.peak_bytes),
                f"{answer.time:.2f}",
                answer.effect,
            )
            for answer in self.answers
        ]
        trainable = (one.recipe for one in self.answers if one.has_recipe)
        settings = "; ".join(next(trainable, []))
        return [
            *table([("what fits", "peak", "time", "effect"), *rows]),
            "time: of all rows of the step over that of the step as asked for, an estimate from "
            "arithmetic",
            *([f"the first that a recipe can say: {settings}"] if settings else []),
        ]


def plan_to_fit(
    model_or_config: nn.Module | Any,
    memory: Size,
    method: str = "lora",
    config: Any = None,
    **step: Any,
) -> Fit:
    """What to change so that a training step fits into `memory`, such as "16GiB": cheapest first.

    `model_or_config`, `method`, `config` and the settings of the `step` are as in `lora.plan`, and
    say what is wanted. Searched are micro-batches, checkpointing, precision, quantisation,
    length and rank: of each combination the mildest values that fit, of which none stands there
    that is stronger in everything than another. Cheapest is what does not change the result, then
    what rounds, then what learns of shorter rows or with a lower rank; and then the time.

    Raises PlanError where nothing fits, with the smallest peak that was found, and as `lora.plan`.

    >>> from transformers import LlamaConfig
    >>> small = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    >>> plan_to_fit(small, "200MB", batch=8, length=32).answers[0].changes
    []
    """
    asked = StepSettings(method, config, **step)
    return fit_step(model_step(model_of(model_or_config), asked), size_of("memory", memory))


def fit_step(step: Step, memory: int, progress: Callable[[], None] | None = None) -> Fit:
    """`plan_to_fit` for a step; `progress` is called with every one that is recorded."""
    search = Search(step, memory, progress)
    answers = [Answer(plan, search.asked) for plan in search.found()]
    if not answers:
        raise _nothing_fits(Answer(search.smallest(), search.asked), memory)
    return Fit(memory, search.asked, tuple(sorted(answers, key=lambda answer: answer.cost)))


def _nothing_fits(smallest: Answer, memory: int) -> PlanError:
    peak = smallest.peak_bytes
    changes = ", ".join(smallest.changes) or "as it is"
    return PlanError(
        f"No training step of this {smallest.plan.model} with {smallest.plan.settings.method} "
        f"fits into {size_text(memory)}: the smallest peak that was found is {size_text(peak)}, "
        f"{size_text(peak - memory)} too much.",
        [
            f"it is that of {changes}",
            *(
                f"{name}: {size_text(size)}"
                for name, size in on_device(smallest.plan).bytes_by.items()
                if size
            ),
        ],
    )
