"""What the paper (arXiv 2106.09685, section 4.2) says of GPT-3, beside what a plan says.

Assumed, as there: LoRA of rank 4 on the query and value projections, Adam, base weights in fp16.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorakit.config import LoraConfig
from lorakit.pages import Section, Table
from lorakit.planner.plan import Plan
from lorakit.planner.recording import BASE, STATE, TRAINED
from lorakit.planner.table import PlanTable
from lorakit.text import count_text, table

CARD = "gpt3-175b"
QUERY_VALUE = LoraConfig(r=4, target_modules=["c_attn"], slices={"c_attn": [True, False, True]})
"""The paper's adapter; GPT-2's c_attn is query, key and value side by side."""
CONFIGS = {"lora": QUERY_VALUE, "full": None}
"""The methods to plan for `claims`, each with its config."""


@dataclass(frozen=True)
class Claim:
    """One figure of the paper, or rule of thumb, beside the plan's."""

    of: str
    paper: str
    plan: str
    assumes: str
    """What the plan's figure is made of, and why it is another one."""


def claims(plans: PlanTable) -> list[Claim]:
    """The claims, beside the plans of `CONFIGS` with fp16."""
    lora, full = plans.plans["lora"], plans.plans["full"]
    parameters, trained = full.total_parameters, lora.trainable_parameters
    whole, small = _weights_and_state(full), _weights_and_state(lora)
    return [
        Claim(
            "checkpoint",
            "350 GB to 35 MB",
            f"{_big(2 * parameters)} to {2 * trained / 1e6:,.1f} MB",
            "2 bytes a parameter; lorakit saves what trained in float32, twice that",
        ),
        Claim(
            "trained parameters",
            "10,000 times fewer",
            f"{parameters / trained:,.0f} times fewer",
            f"{parameters:,} and {trained:,}",
        ),
        Claim(
            "training memory",
            "1.2 TB to 350 GB",
            f"{_big(whole)} to {_big(small)}",
            "weights, gradients and Adam's state, no activations; trained weights, their gradients "
            "and state are float32 here, 16 bytes; 1.2 TB are 6.9 bytes a parameter",
        ),
        Claim(
            "the same with activations",
            "not given",
            f"{_big(full.peak_bytes)} to {_big(lora.peak_bytes)}",
            f"at the peak of a step of {lora.settings.batch} x {lora.settings.length} tokens",
        ),
        Claim(
            "4 + 4 + 8 bytes for each trained parameter",
            "a rule",
            f"{_big(16 * parameters)}, and of LoRA {16 * trained / 1e6:,.1f} MB",
            "weights, gradients, Adam in float32: right for full fine-tuning but for activations; "
            f"of LoRA it leaves out the frozen weights, {_big(lora.bytes_by[BASE])}",
        ),
        Claim(
            "speed",
            "25% faster",
            f"{full.flops_per_token / lora.flops_per_token - 1:.0%} faster by arithmetic",
            f"{count_text(full.flops_per_token)}FLOP a token, of LoRA "
            f"{count_text(lora.flops_per_token)}FLOP: of a weight's three products frozen ones "
            "need two; the paper's are tokens a second of V100s, where memory and communication "
            "take their time too",
        ),
    ]


TITLE = "The paper's claims: LoRA with r=4 on query and value, Adam, base weights in fp16"


def claims_section(found: list[Claim]) -> Section:
    """The claims as a part of a page."""
    rows = [[claim.of, claim.paper, claim.plan, claim.assumes] for claim in found]
    return Section(
        "The paper's claims",
        [Table(f"{TITLE}.", ["of", "the paper", "the plan", "assumed"], rows)],
    )


def claims_text(found: list[Claim]) -> str:
    """The claims as a table, the assumptions below it."""
    rows = [
        (str(number), claim.of, claim.paper, claim.plan) for number, claim in enumerate(found, 1)
    ]
    return "\n".join(
        [
            TITLE,
            *table([("", "of", "the paper", "the plan"), *rows]),
            *(f"{number}: {claim.assumes}" for number, claim in enumerate(found, 1)),
        ]
    )


def _weights_and_state(plan: Plan) -> int:
    """Gradients as large as what trains, whether or not they are there at the peak."""
    at_peak = plan.bytes_by
    return at_peak[BASE] + 2 * at_peak[TRAINED] + at_peak[STATE]


def _big(size: int) -> str:
    """
    >>> _big(349_208_518_656), _big(2_793_668_149_248)
    ('349.2 GB', '2.79 TB')
    """
    return f"{size / 1e12:,.2f} TB" if size >= 1e12 else f"{size / 1e9:,.1f} GB"
