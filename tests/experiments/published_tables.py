"""The figures of the paper and of microsoft/LoRA's README, for the shipped sweeps.

By sweep, base and method; a row has its tasks' metrics in the order of `COLUMNS`, in the unit of
the table. None: there is no figure.
"""

from __future__ import annotations

_GLUE = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")
_HEADLINES = {"cola": "matthews_correlation", "stsb": "pearson"}
_BLEU = [("webnlg", f"bleu{view}") for view in ("_unseen", "_seen", "")]
_E2E = [("e2e", metric) for metric in ("bleu", "nist", "meteor", "rouge_l", "cider")]
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

COLUMNS = {
    "glue-readme": [
        ("mnli", "accuracy"), ("mnli", "mismatched_accuracy"),
        *((task, _HEADLINES.get(task, "accuracy")) for task in _GLUE[1:]), ("stsb", "spearman"),
        ("average", "glue"),
    ],
    "glue-paper": [
        *((task, _HEADLINES.get(task, "accuracy")) for task in _GLUE), ("average", "glue"),
    ],
    "nlg-readme": [*_E2E, ("dart", "bleu"), *_BLEU, ("dart", "meteor"), ("dart", "ter")],
    "which-rank-nlg": [("e2e", "bleu")],
}  # fmt: skip
SOURCES = {
    "glue-readme": {"https://github.com/microsoft/LoRA/blob/"},
    "glue-paper": {"arXiv 2106.09685, table 2"},
    "nlg-readme": {
        "arXiv 2106.09685, table 3",
        "arXiv 2106.09685, table 13",
        "https://github.com/microsoft/LoRA/blob/",
    },
    "which-rank-nlg": {"arXiv 2106.09685, table 18"},
}
"""What the source of each figure begins with."""

B, L, XXL, M, G = "RoBERTa-base", "RoBERTa-large", "DeBERTa-XXL", "GPT-2 medium", "GPT-2 large"
TABLES: dict[str, dict[tuple[str, str], list[float | None]]] = {
    "glue-readme": {
        (B, "Fine-Tune"): [87.6, None, 94.8, 90.2, 63.6, 92.8, 91.9, 78.7, 91.2, None, 86.40],
        (B, "LoRA"): [87.5, 86.9, 95.1, 89.7, 63.4, 93.3, 90.8, 86.6, 91.5, 91.3, 87.24],
        (XXL, "Fine-Tune"): [91.7, 91.9, 97.2, 92.0, 72.0, 96.0, 92.7, 93.9, 92.9, 92.6, 91.06],
        (XXL, "LoRA"): [91.9, 91.9, 96.9, 92.6, 72.4, 96.0, 92.9, 94.9, 93.0, 92.9, 91.32],
    },
    "glue-paper": {
        (B, "Fine-Tune"): [87.6, 94.8, 90.2, 63.6, 92.8, 91.9, 78.7, 91.2, 86.4],
        (B, "BitFit"): [84.7, 93.7, 92.7, 62.0, 91.8, 84.0, 81.5, 90.8, 85.2],
        (B, "AdapterDrop"): [87.1, 94.2, 88.5, 60.8, 93.1, 90.2, 71.5, 89.7, 84.4],
        (B, "Pfeiffer 48"): [87.3, 94.7, 88.4, 62.6, 93.0, 90.6, 75.9, 90.3, 85.4],
        (B, "LoRA"): [87.5, 95.1, 89.7, 63.4, 93.3, 90.8, 86.6, 91.5, 87.2],
        (L, "Fine-Tune"): [90.2, 96.4, 90.9, 68.0, 94.7, 92.2, 86.6, 92.4, 88.9],
        (L, "LoRA"): [90.6, 96.2, 90.9, 68.2, 94.9, 91.6, 87.4, 92.6, 89.0],
        (L, "Pfeiffer 64"): [90.2, 96.1, 90.2, 68.3, 94.8, 91.9, 83.8, 92.1, 88.4],
        (L, "Pfeiffer 16"): [90.5, 96.6, 89.7, 67.8, 94.8, 91.7, 80.1, 91.9, 87.9],
        (L, "Houlsby 64"): [89.9, 96.2, 88.7, 66.5, 94.7, 92.1, 83.4, 91.0, 87.8],
        (L, "Houlsby 8"): [90.3, 96.3, 87.7, 66.3, 94.7, 91.5, 72.9, 91.5, 86.4],
        (L, "LoRA alone"): [90.6, 96.2, 90.2, 68.2, 94.8, 91.6, 85.2, 92.3, 88.6],
    },
    "nlg-readme": {
        (M, "Fine-Tune"): [68.2, 8.62, 46.2, 71.0, 2.47, 46.0, 30.4, 63.2, 47.6, 39, 46],
        (M, "Adapter"): [66.3, 8.41, 45.0, 69.8, 2.40, 42.4, 45.1, 54.5, 50.2, 36, 48],
        (M, "Prefix"): [69.7, 8.81, 46.1, 71.4, 2.49, 45.7, 44.1, 63.1, 54.4, 38, 46],
        (M, "LoRA"): [70.4, 8.85, 46.8, 71.8, 2.53, 47.1, 46.7, 62.1, 55.3, 39, 46],
        (G, "Fine-Tune"): [68.5, 8.78, 46.0, 69.9, 2.45, 46.5, 41.7, 64.6, 54.2, None, None],
        (G, "Adapter"): [69.1, 8.68, 46.3, 71.4, 2.49, 45.7, 49.8, 61.1, 56.0, None, None],
        (G, "Prefix"): [70.3, 8.85, 46.2, 71.7, 2.47, 46.5, 47.0, 64.2, 56.4, None, None],
        (G, "LoRA"): [70.4, 8.89, 46.8, 72.0, 2.47, 47.5, 48.4, 64.0, 57.0, 39, 45],
    },
    "which-rank-nlg": {
        (M, f"LoRA, lora.r={rank}"): [bleu]
        for rank, bleu in zip(
            RANKS,
            (68.72, 69.17, 70.38, 69.57, 69.61, 69.33, 69.24, 68.73, 68.92, 68.78, 69.37),
            strict=True,
        )
    },
}
SPREADS: dict[tuple[str, str, str], list[float | None]] = {
    ("glue-readme", B, "LoRA"): [0.3, 0.3, 0.2, 0.7, 1.2, 0.3, 0.1, 0.7, 0.2, 0.2, None],
    ("glue-readme", XXL, "LoRA"): [0.1, 0.2, 0.2, 0.6, 1.1, 0.1, 0.1, 0.4, 0.2, 0.3, None],
    ("glue-paper", B, "LoRA"): [0.3, 0.2, 0.7, 1.2, 0.3, 0.1, 0.7, 0.2, None],
    ("glue-paper", L, "LoRA"): [0.2, 0.5, 1.2, 1.9, 0.3, 0.1, 2.5, 0.2, None],
    ("nlg-readme", M, "LoRA"): [0.1, 0.02, 0.2, 0.1, 0.02, 0.2, 0.4, 0.2, 0.2, None, None],
    ("nlg-readme", G, "LoRA"): [0.1, None, None, None, None, 0.1, 0.3, 0.3, 0.1, None, None],
    ("nlg-readme", G, "Adapter"): [0.1, None, None, None, None, 0.1, 0.0, 0.0, 0.0, None, None],
}
"""What stands behind ±; the other rows have none."""
