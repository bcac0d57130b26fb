"""One part of the benchmarks `data_to_text` and `data_to_text_speed`: SIZE TASK ARGUMENTS."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import (
    DataCollatorForSeq2Seq,
    NoRepeatNGramLogitsProcessor,
    Trainer,
    TrainingArguments,
    set_seed,
)

import lorakit as lora
from benchmarks.reviews_worker import quiet
from lorakit.inference.batch_generation import AfterPrompt
from lorakit.inference.generation import decoding_of, generate_rows
from lorakit.inference.prediction import evaluate
from lorakit.inference.session import Session
from lorakit.metrics.data_to_text import score as metrics
from lorakit.models.dtypes import cast_frozen, resolve_dtype
from lorakit.models.fp32_attention import use_fastest_attention
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.data import encode, prepare
from lorakit.recipe.decoding import DecodingConfig
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe, with_settings
from lorakit.tasks.registry import task_spec
from lorakit.training.arguments import make_trainer
from lorakit.training.model import adapt_model, load_model

STEPS = {"full": 60, "speed": 12, "quick": 2}
DEV_EVERY = {"full": 16, "quick": 250}
TEST_EVERY = {"speed": 30, "quick": 300}
NEW_TOKENS = {"full": 64, "speed": 64, "quick": 4}
TRAIN_EVERY, TOTAL_BATCH, BATCH_ROWS, PADDED = 12, 16, 6, 512


def main() -> None:
    size, task, *arguments = sys.argv[1:]
    print(json.dumps(TASKS[task](size, *arguments)))


def table(name: str) -> Any:
    """One of E2E's files, one row a distinct input."""
    file = Path(os.environ["LORAKIT_E2E"]) / name
    return task_spec("e2e").read_rows(str(file if file.is_file() else f"{file}.gz"))


def recipe(size: str, output: str, seed: str = "0") -> Recipe:
    """The shipped recipe, shortened."""
    settings = ["task=e2e", f"base={os.environ['LORAKIT_SMOLLM2']}", f"output={output}"]
    settings += [f"training.total_batch={TOTAL_BATCH}", f"training.max_steps={STEPS[size]}"]
    settings += [f"decoding.max_new_tokens={NEW_TOKENS[size]}", f"training.seed={seed}"]
    settings += [] if size == "speed" else ["training.dtype=fp32"]
    return from_mapping(with_settings(load_recipe(recipe_file("nlg-smollm2")), settings))


def sizes(size: str) -> dict[str, int]:
    test = table("testset_w_refs.csv")
    return {"test inputs": len(test), "test references": sum(map(len, test["references"]))}


def train(size: str, variant: str, output: str, seed: str = "0") -> dict[str, float]:
    """Seconds, tokens a second and peak memory of training; the adapter goes to `output`."""
    set_seed(int(seed))
    settings = recipe(size, f"{output}-run", seed)
    inputs = table("trainset.csv")
    inputs = inputs.select(range(0, len(inputs), TRAIN_EVERY))
    tokenizer, task = prepare(settings, inputs)
    examples, _ = encode(task, tokenizer, inputs, "train", quiet)
    examples = examples.shuffle(seed=int(seed)).select(range(STEPS[size] * TOTAL_BATCH))
    if variant == "lorakit":
        model, head = load_model(settings, task)
        adapt_model(settings, model, head)
    else:
        model = peft_model(settings)
    if variant == "peft":
        cast_frozen(model, resolve_dtype(settings.training.dtype))
        use_fastest_attention(model.get_base_model(), resolve_dtype(settings.training.dtype))
    data = {"train": examples}
    if variant == "peft-trainer":
        steps = len(examples) // 8
        loop: Trainer = plain_trainer(model, tokenizer, examples, steps, output)
    else:
        loop = make_trainer(settings, model, task, tokenizer, data, Path(settings.output), quiet)
        if variant != "lorakit":
            loop.args.save_strategy = "no"  # its checkpoints are of models that lorakit prepared
    started = time.perf_counter()
    loop.train()
    seconds = time.perf_counter() - started
    if variant == "lorakit":
        lora.save_adapter(model, output)
    elif variant == "peft":
        model.save_pretrained(output)
    tokens = sum(map(len, examples["input_ids"]))
    return {
        "training seconds": seconds,
        "training tokens a second": tokens / seconds,
        "training peak GB": peak(),
    }


def peft_model(settings: Recipe) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(settings.base, dtype="float32")
    chosen = settings.lora
    config = LoraConfig(
        r=chosen.r,
        lora_alpha=int(chosen.lora_alpha),
        target_modules=chosen.target_modules,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def plain_trainer(model: Any, tokenizer: Any, examples: Any, steps: int, output: str) -> Trainer:
    """transformers' own with its defaults: batches of 8 in random order, padded to the longest."""
    arguments = TrainingArguments(
        output_dir=output,
        max_steps=steps,
        learning_rate=1e-3,
        save_strategy="no",
        report_to=[],
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    collator = DataCollatorForSeq2Seq(tokenizer)
    return Trainer(model=model, args=arguments, train_dataset=examples, data_collator=collator)


def opened(size: str, adapter: str) -> Session:
    """The base with an adapter, or alone, ready to decode."""
    settings = recipe(size, "unused")
    tokenizer, task = prepare(settings, None)
    model = transformers.AutoModelForCausalLM.from_pretrained(settings.base, dtype="float32").eval()
    if adapter != "-":
        lora.load_adapter(model, adapter)
    return Session(
        adapter, settings.base, "lora", model, tokenizer, task, settings, task_spec(task.name)
    )


def score(size: str, adapter: str) -> dict[str, float]:
    """Scores and loss on a part of the dev set, and whether merging changes a text."""
    saved = opened(size, adapter)
    dev = table("devset.csv")
    dev = dev.select(range(0, len(dev), DEV_EVERY[size]))
    decoding = decoding_of(saved)
    started = time.perf_counter()
    texts = generate_rows(saved, dev, "dev", decoding).texts
    seconds = time.perf_counter() - started
    found = {"dev loss": evaluate(saved, dev, "dev").metrics["loss"]}
    found |= metrics("e2e", texts, dev["references"][:])
    if adapter != "-":
        few = [saved.task.prompts(saved.tokenizer, dev[:6])["input_ids"], decoding]
        unmerged = plain(saved, *few)
        found["texts that merging changes, of 6"] = differing(unmerged, texts)
    return found | {"dev decoding seconds": seconds, "dev decoding peak GB": peak()}


def decode(size: str, adapter: str) -> dict[str, float]:
    """Seconds an input: lorakit's, in file order, and a row padded to 512; the same texts."""
    saved = opened(size, adapter)
    test = table("testset_w_refs.csv")
    test = test.select(range(0, len(test), TEST_EVERY[size]))
    decoding = replace(decoding_of(saved), batch_size=BATCH_ROWS)
    prompts = saved.task.prompts(saved.tokenizer, test[:])["input_ids"]
    ours, texts = timed(lambda: generate_rows(saved, test, "test", decoding).texts)
    with lora.merged(saved.model):
        theirs, others = timed(lambda: plain(saved, prompts, decoding))
        one = replace(decoding, batch_size=1)
        padded, _ = timed(lambda: plain(saved, prompts[:1], one, PADDED))
    return {
        "seconds an input": ours / len(prompts),
        "seconds an input in file order": theirs / len(prompts),
        "seconds a row padded to 512": padded,
        "texts that differ": differing(others, texts),
        "inputs": len(prompts),
    }


def plain(
    saved: Session, prompts: list[list[int]], decoding: DecodingConfig, padded: int = 0
) -> list[str]:
    """transformers' `generate` in the order of the prompts, as a user would write it."""
    tokenizer, texts = saved.tokenizer, []
    stop = tokenizer("\n\n", add_special_tokens=False)["input_ids"]
    for start in range(0, len(prompts), decoding.batch_size):
        batch = prompts[start : start + decoding.batch_size]
        width = max([padded, *map(len, batch)])
        ids = [[tokenizer.pad_token_id] * (width - len(p)) + p for p in batch]
        mask = [[0] * (width - len(p)) + [1] * len(p) for p in batch]
        repeats = NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram_size)
        with torch.no_grad():
            output = saved.model.generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                num_beams=decoding.num_beams,
                length_penalty=decoding.length_penalty,
                max_new_tokens=decoding.new_token_limit,
                do_sample=False,
                logits_processor=[AfterPrompt(repeats, width)],
                eos_token_id=[tokenizer.eos_token_id, *stop],
                pad_token_id=tokenizer.pad_token_id,
            )
        answers = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
        texts += [answer.partition("\n\n")[0].strip() for answer in answers]
    return texts


def timed(call: Callable[[], list[str]]) -> tuple[float, list[str]]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def differing(some: list[str], others: list[str]) -> int:
    return sum(a != b for a, b in zip(some, others, strict=False))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "sizes": sizes,
    "train": train,
    "score": score,
    "decode": decode,
}

if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    transformers.logging.set_verbosity_error()
    main()
