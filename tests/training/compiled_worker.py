"""The command line in a process of its own, compiling without inductor, which takes minutes."""

from __future__ import annotations

from functools import partial

from lorakit.cli import main
from lorakit.training import step_trainer
from lorakit.training.compilation import Compilation

if __name__ == "__main__":
    step_trainer.Compilation = partial(Compilation, backend="aot_eager")
    main()
