"""The model card (README.md) of an adapter."""

from __future__ import annotations

from pathlib import Path

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.variants.trainable_tokens import rows_of

CARD_NAME = "README.md"

_MARK = "<!-- written by lorakit; edit it and remove this line, and it will be kept -->"


def model_card(bundle: AdapterBundle) -> str:
    """A description of the adapter and how to load it, with the Hub's metadata."""
    base = bundle.base_model or "unknown"
    config = bundle.config
    parameters = sum(adapter.parameters for adapter in bundle.adapters.values())
    trained = sum(tensor.numel() for tensor in bundle.trained.values())
    tokens = rows_of(bundle.adapters)
    targets = config.target_modules
    modules = [targets] if isinstance(targets, str) else targets or ()
    names = ", ".join([*modules, *(config.target_parameters or ())])
    front = ["library_name: peft", "tags:", "- lora", "- lorakit"]
    if bundle.base_model:
        front.insert(0, f"base_model: {base}")
    return "\n".join(
        [
            "---",
            *front,
            "---",
            _MARK,
            "# LoRA adapter",
            "",
            f"- Base model: {base}",
            f"- Rank {config.r}, lora_alpha {config.lora_alpha:g}, dropout {config.lora_dropout:g}"
            + (", rsLoRA" if config.use_rslora else "")
            + (", DoRA" if config.use_dora else ""),
            f"- Adapted modules: {len(bundle.adapters) - len(tokens)} ({names})",
            *(f"- Trained tokens: {len(rows):,} of {name}" for name, rows in tokens.items()),
            f"- Parameters: {parameters:,} in the adapter, {trained:,} trained in full",
            "",
            "```python",
            "import lorakit as lora",
            "",
            "lora.load_adapter(model, path)",
            "```",
            "",
            "```python",
            "from peft import PeftModel",
            "",
            "model = PeftModel.from_pretrained(model, path)",
            "```",
            "",
        ]
    )


def is_ours(card: Path) -> bool:
    """Whether this card was written by lorakit and never edited."""
    return _MARK in card.read_text(encoding="utf-8", errors="replace")
