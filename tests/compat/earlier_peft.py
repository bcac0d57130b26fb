"""Run by an earlier release of PEFT: the logits of the adapters in the given directory.

Each of its directories has `base`, `adapter`, and `case.json` with the class of the base; the
logits are written beside them.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers


def main() -> None:
    warnings.simplefilter("ignore")
    for case in Path(sys.argv[1]).iterdir():
        kind = json.loads((case / "case.json").read_text())
        base = getattr(transformers, kind).from_pretrained(case / "base").eval()
        model = peft.PeftModel.from_pretrained(base, case / "adapter").eval()
        with torch.no_grad():
            logits = model(input_ids=torch.arange(3, 9)[None]).logits
        torch.save(logits, case / "logits.pt")
    print(peft.__version__)


if __name__ == "__main__":
    main()
