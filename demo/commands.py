"""The commands that the demo runs and that the documentation prints: these and no others."""

from __future__ import annotations

SENTENCES = (
    "A joy from the first scene to the last.",
    "It wants to be a thriller and ends as a lullaby.",
    "Death, grief and rain, and still I left the cinema happy.",
    "It could have been a great film.",
)
"""Picked from sixteen: one is easy, two the adapter turns right, one both runs get wrong."""
FULL_RESULT = "demo/full.json"
"""The result of full fine-tuning, recorded with `make demo FULL=1`."""

METHODS = {
    "lora": "",
    "head": " --set method=head --set training.learning_rate=1e-1",
    "full": " --set method=full --set training.learning_rate=5e-5",
}
"""What the recipe is changed by for each method."""


def training(method: str, cache: str, runs: str) -> str:
    """The command that trains by one method."""
    return (
        f"lorakit train reviews --base {cache}/all-MiniLM-L6-v2 --data {cache}/reviews.csv "
        f"--output {runs}/{method}{METHODS[method]}"
    )


def comparison(runs: str, reference: str | None) -> str:
    """The command that puts the runs side by side."""
    return f"lorakit compare {runs}" + (f" --reference {reference}" if reference else "")


def prediction(method: str, runs: str) -> str:
    """The command that classifies a few sentences."""
    return f"lorakit predict {runs}/{method}" + "".join(f' --text "{s}"' for s in SENTENCES)


def data_to_text(base: str, train: str, test: str, run: str) -> str:
    """The command that trains, decodes and scores a small part of E2E."""
    settings = (
        f"data.test={test}", "data.validation=null", "training.total_batch=8",
        "decoding.num_beams=4",
    )  # fmt: skip
    return (
        f"lorakit train nlg-smollm2 --set task=e2e --base {base} --data {train} --output {run}"
        + "".join(f" --set {setting}" for setting in settings)
    )
