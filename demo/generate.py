"""`python -m demo.generate [--data FOLDER]`: what `make demo-generate` runs after installing."""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

from demo import e2e, smollm2
from demo.commands import data_to_text

RUN = "runs/demo-generate"
PROMPTS = 4

WELCOME = """\
Data to text: SmolLM2-135M-Instruct learns to describe restaurants, from {references} of E2E's
42,061 sentences. Fetches 98 MB (the model) if it is not there; 2 to 8 minutes on two cores.
"""


def main() -> None:
    """Prepare, train, decode and score the test inputs; print some of them before and after."""
    parser = argparse.ArgumentParser(prog="python -m demo.generate", description=__doc__)
    parser.add_argument("--data", help="folder with E2E's CSV files")
    parser.add_argument("--run", default=RUN, help="directory of the run")
    parser.add_argument("--set", action="append", default=[], help="a setting for the training")
    options = parser.parse_args()
    started = time.monotonic()
    print(WELCOME.format(references=e2e.TRAIN_REFERENCES), flush=True)
    train, test = e2e.prepare(options.data)
    base = smollm2.prepare()
    command = data_to_text(str(base), str(train), str(test), options.run)
    command += "".join(f" --set {setting}" for setting in options.set)
    print(f"$ {command}", flush=True)
    if code := subprocess.run(command, shell=True).returncode:
        raise SystemExit(code)
    print(f"\n{before_and_after(Path(options.run))}")
    print(f"\n{(time.monotonic() - started) / 60:.1f} minutes. The texts, references and scores:")
    print(f"  {options.run}/predictions.txt, references.txt and scores.md")


def before_and_after(run: Path) -> str:
    """Some test inputs with the completions of the base and of the adapted model."""
    from dataclasses import replace

    from lorakit.inference.generation import decoding_of, generate_rows
    from lorakit.inference.session import evaluation_tables, open_session
    from lorakit.models.loading import load_for_task

    saved = open_session(str(run))
    rows = evaluation_tables(saved, None)["test"]
    rows = rows.select(range(0, len(rows), max(1, len(rows) // PROMPTS))[:PROMPTS])
    base, _ = load_for_task(saved.base, saved.task.auto_class, {})
    plain = replace(saved, model=base.eval())
    texts = [
        generate_rows(model, rows, "test", decoding_of(saved)).texts for model in (plain, saved)
    ]
    blocks = zip(rows["input"], *texts, strict=True)
    return "\n\n".join(f"{i}\n  before: {_short(b)}\n  after:  {a}" for i, b, a in blocks)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else f"{line[:77]}...")


if __name__ == "__main__":
    main()
