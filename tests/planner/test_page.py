"""The page of plans, as values and in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig

from lorakit.pages import Figure, Page, Table, write_page
from lorakit.planner.bases import model_on_meta
from lorakit.planner.claims import Claim, claims_section
from lorakit.planner.module_kinds import module_kinds
from lorakit.planner.page import plan_page
from lorakit.planner.settings import StepSettings
from lorakit.planner.table import PlanTable, method_steps, plan_steps
from tests.browser.assertions import assert_good_page
from tests.browser.chromium import Browser
from tests.pages.figures.shapes import texts

SMALL = LlamaConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    vocab_size=64,
)


@pytest.fixture(scope="module")
def plans() -> PlanTable:
    settings = StepSettings(batch=2, length=8, devices=2, parallel="fsdp")
    return plan_steps(method_steps(model_on_meta(SMALL), settings, {"lora": None, "full": None}))


@pytest.fixture(scope="module")
def page(plans: PlanTable) -> Page:
    return plan_page(plans, (("Command", "lorakit plan m"),))


def part(page: Page, section: int, at: int = 0) -> Figure | Table:
    return page.sections[section].parts[at]  # type: ignore[return-value]


def test_page_has_a_section_for_each_view(page: Page) -> None:
    assert [section.title for section in page.sections] == [
        "At the peak",
        "Over the step",
        "By module",
        "On each device",
    ]


def test_bars_have_each_method_and_end_at_its_peak(page: Page, plans: PlanTable) -> None:
    (bars,) = part(page, 0).panels
    ends = {f"{plan.peak_bytes / 1e6:,.3g} MB" for plan in plans.plans.values()}
    assert {"lora", "full", *ends} <= set(texts(bars))


def test_curve_of_each_method_has_its_phases_and_its_peak(page: Page, plans: PlanTable) -> None:
    panels = part(page, 1).panels
    for (name, plan), panel in zip(plans.plans.items(), panels, strict=True):
        peak = f"{plan.peak_bytes / 1e6:,.3g} MB"
        assert {name, "forward", "backward", "update", peak} <= set(texts(panel))


def test_tables_of_modules_have_those_that_hold_most(page: Page, plans: PlanTable) -> None:
    for at, plan in enumerate(plans.plans.values()):
        table, kinds = part(page, 2, at), module_kinds(plan.memory.modules)
        assert table.columns[:3] == ["module", "modules", "sum"]
        assert [row[0] for row in table.rows] == [kind.name for kind in kinds[: len(table.rows)]]
        assert [row[2].value for row in table.rows] == [
            kind.total / 1e6 for kind in kinds[: len(table.rows)]
        ]
        assert f"{len(kinds) - len(table.rows)} more kinds hold" in table.caption


def test_devices_are_labelled_by_formula_with_sources(page: Page) -> None:
    assert "by formula" in part(page, 3, 1).caption
    assert "communication" in part(page, 3, 1).columns
    assert sum("torch.distributed.fsdp.fully_shard" in note.text for note in page.notes) == 2


def test_page_of_one_device_has_no_section_for_several() -> None:
    plans = plan_steps(
        method_steps(model_on_meta(SMALL), StepSettings(batch=1, length=8), {"lora": None})
    )
    assert len(plan_page(plans, ()).sections) == 3


def test_claims_are_a_section_at_the_end(plans: PlanTable) -> None:
    claim = Claim("checkpoint", "350 GB to 35 MB", "349.2 GB to 37.7 MB", "2 bytes a parameter")
    last = plan_page(plans, (), [claims_section([claim])]).sections[-1]
    assert last.title == "The paper's claims"
    assert last.parts[0].rows == [
        ["checkpoint", "350 GB to 35 MB", "349.2 GB to 37.7 MB", "2 bytes a parameter"]
    ]


def test_page_is_good_in_a_browser(page: Page, tab: Browser, tmp_path: Path) -> None:
    write_page(page, tmp_path / "plan.html")
    assert_good_page(tab, tmp_path / "plan.html")
