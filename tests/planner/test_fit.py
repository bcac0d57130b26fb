"""What makes a step fit into a memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import LlamaConfig

import lorakit as lora
from lorakit.errors import ConfigError, PlanError
from lorakit.planner import planning
from lorakit.planner.bases import config_of, model_on_meta
from lorakit.planner.changes import EFFECTS, strength
from lorakit.planner.fit import Answer, Fit, fit_step
from lorakit.planner.planning import Step, model_step, plan_step
from lorakit.planner.settings import StepSettings
from lorakit.text import size_text

LORA = lora.LoraConfig(r=8, target_modules=["down_proj"])
ASKED = StepSettings("lora", LORA, batch=8, length=64, dtype="fp32")
TINY = LlamaConfig(
    hidden_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=256,
    vocab_size=100,
)


@pytest.fixture(scope="module")
def model():
    return model_on_meta(TINY)


@pytest.fixture(scope="module")
def step_of(model):
    """Makes steps of the model; what is recorded for one test is there for the others."""
    known = {}

    def record(settings):
        name = repr(replace(settings, quantised=None))
        if name not in known:
            known[name] = planning.record(model, settings)
        return known[name]

    return lambda settings: Step(settings, record)


@pytest.fixture(scope="module")
def found(step_of):
    """For half of what the step takes."""
    step = step_of(ASKED)
    return fit_step(step, step.plan().peak_bytes // 2)


def test_answers_fit_and_are_plans_of_their_settings(found, model):
    assert found.answers
    for answer in found.answers:
        assert answer.peak_bytes <= found.memory
        assert plan_step(model, answer.plan.settings).bytes_by == answer.plan.bytes_by


def test_cheapest_answer_is_the_first(found):
    costs = [(EFFECTS.index(answer.effect), answer.time) for answer in found.answers]
    assert costs == sorted(costs)
    assert found.answers[0].effect == "the same result"


def test_answer_is_the_mildest_of_its_kind(found, step_of):
    rows = next(answer for answer in found.answers if len(answer.changes) == 1)
    assert rows.changes == ["micro-batches of 3 rows"]
    milder = StepSettings("lora", LORA, 8, 64, "fp32", token_budget=64 * 4)
    assert step_of(milder).plan().peak_bytes > found.memory


def test_no_answer_changes_as_much_as_another_or_more(found):
    changes = [strength(answer.plan.settings) for answer in found.answers]
    for one in changes:
        assert not any(
            other != one and all(a <= b for a, b in zip(other, one, strict=True))
            for other in changes
        )


def test_changes_are_settings_of_a_recipe(found):
    first = found.answers[0]
    assert first.recipe == [f"training.token_budget: {first.plan.settings.token_budget}"]
    names = {setting.split(":")[0] for answer in found.answers for setting in answer.recipe}
    assert names == {"training.token_budget", "training.dtype", "data.max_length"}


def test_step_that_fits_is_not_changed(step_of):
    found = fit_step(step_of(ASKED), 10**9)
    assert [answer.changes for answer in found.answers] == [[]]
    assert found.answers[0].time == 1
    assert "to spare of 1,000.00 MB" in str(found)


def test_few_steps_are_recorded(step_of):
    step = step_of(StepSettings("lora", LORA, 8, 64))
    made, calls = [], []

    def counted(settings):
        made.append(settings)
        return step.record(settings)

    fit_step(Step(step.settings, counted), step.plan().peak_bytes // 2, lambda: calls.append(1))
    assert len(made) == len(calls) <= 16
    assert all(one not in made[:n] for n, one in enumerate(made))


def test_recipe_of_shorter_rows_has_their_token_budget(step_of):
    """The budget of before would take more of them at once."""
    asked = replace(ASKED, token_budget=2 * 64)
    shorter = replace(asked, length=32, token_budget=64)
    found = Answer(step_of(shorter).plan(), step_of(asked).plan())
    assert found.changes == ["rows of 32 tokens"]
    assert found.recipe == ["training.token_budget: 64", "data.max_length: 32"]
    assert found.has_recipe
    quantised = replace(shorter, quantised="nf4")
    assert not Answer(step_of(quantised).plan(), found.asked).has_recipe


def test_all_changes_are_made_where_nothing_less_fits(step_of):
    found = fit_step(step_of(ASKED), 200_000)
    (answer,) = found.answers
    assert answer.changes == [
        "micro-batches of 1 row",
        "checkpointing",
        "bf16",
        "base in nf4 by formula",
        "rows of 16 tokens",
        "lora.r=4",
    ]
    assert answer.recipe[1:] == [
        "training.gradient_checkpointing: true",
        "training.dtype: bf16",
        "data.max_length: 16",
        "lora.r: 4",
    ]
    assert answer.effect == "learns less"


def test_recipe_is_that_of_the_first_answer_that_a_recipe_can_say(step_of):
    """Part of the changes alone would not fit."""
    asked = step_of(ASKED).plan()
    steps = (replace(ASKED, token_budget=64, quantised="nf4"), replace(ASKED, length=32))
    answers = tuple(Answer(step_of(step).plan(), asked) for step in steps)
    text = str(Fit(asked.peak_bytes - 1, asked, answers))
    assert text.endswith("\nthe first that a recipe can say: data.max_length: 32")


def test_lower_rank_is_found_where_it_alone_is_enough(step_of):
    wide = lora.LoraConfig(r=256, target_modules="all-linear")
    asked = StepSettings("lora", wide, 1, 8, checkpointing=True)
    found = fit_step(step_of(asked), step_of(asked).plan().peak_bytes // 2)
    assert ["lora.r=64"] in [answer.changes for answer in found.answers]


def test_rank_of_other_methods_is_their_size(step_of):
    houlsby = lora.methods.METHODS["houlsby"].config_type(bottleneck=2048)
    asked = StepSettings("houlsby", houlsby, 1, 8)
    found = fit_step(step_of(asked), step_of(asked).plan().peak_bytes // 2)
    assert ["houlsby.bottleneck=512"] in [answer.changes for answer in found.answers]


def test_impossible_memory_names_the_smallest_peak_and_what_is_missing(step_of):
    with pytest.raises(PlanError, match=r"fits into 0\.10 MB: the smallest peak") as error:
        fit_step(step_of(ASKED), 100_000)
    smallest = replace(
        ASKED,
        config=replace(LORA, r=1),
        length=16,
        token_budget=16,
        dtype="bf16",
        checkpointing=True,
        quantised="nf4",
    )
    peak = step_of(smallest).plan().peak_bytes
    assert f"found is {size_text(peak)}, {size_text(peak - 100_000)} too much" in str(error.value)
    assert error.value.problems[0] == (
        "it is that of micro-batches of 1 row, checkpointing, bf16, base in nf4 by formula, "
        "rows of 16 tokens, lora.r=1"
    )


def test_model_without_checkpointing_is_not_asked_for_it(monkeypatch):
    model = model_on_meta(TINY)
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(PlanError, match="smallest peak") as error:
        fit_step(model_step(model, ASKED), 100_000)
    assert "checkpointing" not in str(error.value)
    with pytest.raises(ConfigError, match="checkpointing is True, and this model has none"):
        plan_step(model, replace(ASKED, checkpointing=True))


def test_full_fine_tuning_is_not_quantised(step_of):
    asked = StepSettings("full", None, 8, 64)
    found = fit_step(step_of(asked), step_of(asked).plan().peak_bytes - 1)
    assert all(answer.plan.settings.quantised is None for answer in found.answers)


def test_devices_each_fit(step_of):
    asked = StepSettings("full", None, 8, 64, devices=2, parallel="fsdp")
    peak = step_of(asked).plan().device.peak_bytes
    found = fit_step(step_of(asked), peak - 1)
    assert all(answer.plan.device.peak_bytes < peak for answer in found.answers)
    assert f"{peak / 1e6:,.2f} MB at the peak" in str(found)


@pytest.mark.parametrize("memory", ["16 gibs", -1, "", True])
def test_memory_that_is_no_size_is_refused(memory):
    with pytest.raises(ConfigError, match="memory="):
        lora.plan_to_fit(TINY, memory)


@pytest.mark.slow
def test_eight_billion_parameters_are_searched_in_a_few_plans():
    found = lora.plan_to_fit(config_of("llama-3-8b"), "16GiB", batch=8, length=1024)
    assert found.answers[0].effect == "rounds"
