"""One merge in a process of its own: `merge_files_worker WAY ADAPTER BASE OUTPUT`."""

from __future__ import annotations

import sys


def files(adapter: str, base: str, output: str) -> None:
    import lorakit as lora

    lora.merge_files(adapter, base, output)


def fold(adapter: str, base: str, output: str) -> None:
    from transformers import AutoModelForCausalLM

    import lorakit as lora

    model = AutoModelForCausalLM.from_pretrained(base)
    lora.load_adapter(model, adapter)
    lora.fold(model)
    model.save_pretrained(output, max_shard_size="500MB")


def peft(adapter: str, base: str, output: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    model.merge_and_unload().save_pretrained(output, max_shard_size="500MB")


if __name__ == "__main__":
    {"files": files, "fold": fold, "peft": peft}[sys.argv[1]](*sys.argv[2:])
