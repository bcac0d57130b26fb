"""How to use a trained adapter: in lorakit, in PEFT and, if it can serve it, in vLLM."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from lorakit.checkpoint import AdapterBundle, read, vllm
from lorakit.checkpoint.formats.peft.codec import Peft
from lorakit.checkpoint.formats.registry import format_of
from lorakit.models.loading import WITHOUT_ADAPTER, holds_adapter, load_tokenizer, meta_model
from lorakit.models.vocabulary import new_size
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.directory import ADAPTER, RECIPE
from lorakit.tasks.base import Task
from lorakit.tasks.generation import CausalTask
from lorakit.tasks.task_file import load_task


def usage(output: str) -> str:
    """How to use a finished run, as text with one paragraph for each tool."""
    directory = Path(output)
    recipe = from_mapping(load_recipe(directory / RECIPE))
    task = load_task(directory / ADAPTER)
    generates = task is not None and task.generates
    commands = "\n  ".join(command_lines(output, generates, len(recipe.data.text or ())))
    bundle = read(directory / ADAPTER)
    code = "\n  ".join(python_lines(directory, recipe, bundle, task))
    paragraphs = [f"With lorakit:\n  {commands}", f"In Python:\n  {code}"]
    if isinstance(format_of(directory / ADAPTER), Peft):
        instead = "\n  ".join(peft_lines(f"{output}/{ADAPTER}"))
        paragraphs.append(f"In PEFT, instead of the last line:\n  {instead}")
        paragraphs.append(_in_vllm(recipe, output, bundle, generates))
    return "\n\n".join(paragraphs)


def command_lines(source: str, generates: bool, columns: int) -> list[str]:
    """The commands that use a run or an adapter; `columns` are those that its task reads."""
    source = shlex.quote(source)
    if generates:
        return [f'lorakit generate {source} --prompt "..."']
    from_texts = [f'lorakit predict {source} --text "..."'] if columns == 1 else []
    return [*from_texts, f"lorakit predict {source} --data FILE --output predictions.csv"]


_RESIZING = [
    "torch.manual_seed(0)  # new rows that were not trained are those of the training",
    "model.resize_token_embeddings(len(tokenizer))",
]
"""What `lorakit.models.vocabulary.resize` does, on a base that is just loaded."""


def python_lines(
    run: Path,
    recipe: Recipe,
    bundle: AdapterBundle,
    task: Task | None,
    adapter: str | None = None,
    base: str | None = None,
) -> list[str]:
    """Code that loads the base with the adapter of a run, the adapter in its last line.

    `adapter` and `base` are where they are said to be; None: in the run, and as in its recipe.
    """
    generates = task is not None and task.generates
    auto_class = task.auto_class if task is not None else "AutoModel"
    model = meta_model(recipe.base, recipe.revision, auto_class)
    resized = new_size(model, bundle, load_tokenizer(run / ADAPTER)) is not None
    names = [auto_class, "AutoTokenizer", *(["GenerationConfig"] if generates else [])]
    adapter, base = _literal(adapter or f"{run}/{ADAPTER}"), _literal(base or recipe.base)
    continues = isinstance(task, CausalTask) and task.text_model.continues_prompt
    side = ', padding_side="left"' if continues else ""
    stop = f"model.generation_config = GenerationConfig.from_pretrained({adapter})"
    return [
        *(["import torch"] if resized else []),
        "import lorakit as lora",
        f"from transformers import {', '.join(names)}",
        f"tokenizer = AutoTokenizer.from_pretrained({adapter}{side})",
        f"model = {auto_class}.from_pretrained({base}{_arguments(recipe, task)})",
        *(_RESIZING if resized else []),
        *([stop] if generates else []),
        *([f"# the number is the logit + {mean}"] if (mean := _mean(task)) else []),
        f"lora.load_adapter(model, {adapter})",
    ]


def _literal(text: str | None) -> str:
    """The string as Python writes it, with double quotes around it."""
    return json.dumps(text, ensure_ascii=False)


def _mean(task: Task | None) -> float:
    """What has to be added to the model's output, since its head has no bias."""
    return 0.0 if task is None else task.units.mean


def _arguments(recipe: Recipe, task: Task | None) -> str:
    """Further arguments of `from_pretrained`: which base, its labels, what pads a batch."""
    has_head = task is not None and not task.generates
    labels = task.head().get("num_labels") if task is not None else None
    arguments = {
        f"revision={_literal(recipe.revision)}": recipe.revision is not None,
        f"num_labels={labels}": labels is not None,
        "pad_token_id=tokenizer.pad_token_id": has_head,
        f"adapter_kwargs={WITHOUT_ADAPTER}": holds_adapter(recipe.base, recipe.revision),
    }
    return "".join(f", {argument}" for argument, wanted in arguments.items() if wanted)


def peft_lines(adapter: str) -> list[str]:
    """The same in PEFT, instead of the last line of `python_lines`."""
    return [
        "from peft import PeftModel",
        f"model = PeftModel.from_pretrained(model, {_literal(adapter)})",
    ]


def _in_vllm(recipe: Recipe, output: str, bundle: AdapterBundle, generates: bool) -> str:
    if obstacles := vllm.obstacles(bundle):
        return f"vLLM cannot serve this adapter: {'; '.join(obstacles)}."
    adapter = f"{output}/{ADAPTER}"
    revision = [] if recipe.revision is None else ["--revision", recipe.revision]
    served = ["--generation-config", adapter] if generates else ["--runner", "pooling"]
    served += ["--enable-lora", "--max-lora-rank", str(vllm.max_rank(bundle))]
    named = f"{Path(output).name}={adapter}"
    command = ["vllm", "serve", recipe.base, *revision, *served, "--lora-modules", named]
    return f"In vLLM, where it supports LoRA for this architecture:\n  {shlex.join(command)}"
