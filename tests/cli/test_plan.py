"""`lorakit plan`."""

from __future__ import annotations

import json

import pytest
from transformers import LlamaConfig

import lorakit as lora


@pytest.fixture
def config() -> LlamaConfig:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaConfig(vocab_size=64, intermediate_size=64, **sizes)


@pytest.fixture
def base(config, tmp_path):
    config.save_pretrained(tmp_path)
    return tmp_path


def test_methods_stand_side_by_side(run, base):
    code, out, _ = run("plan", base, "--method", "lora,full,prefix_layer", "--length", "16")
    assert code == 0
    methods, _ = out.split("\n\n")
    assert [line.split()[0] for line in methods.splitlines()[1:]] == [
        "method", "lora", "full", "prefix_layer",
    ]  # fmt: skip


def test_modules_that_hold_most_stand_below(run, base):
    code, out, _ = run("plan", base, "--method", "lora,full", "--length", "16")
    assert code == 0
    head, *rows = out.split("\n\n")[1].splitlines()
    assert head.split()[-3:] == ["modules", "lora", "full"]
    assert {"model.layers.*.mlp.up_proj", "model.embed_tokens"} <= {row.split()[0] for row in rows}


def test_page_is_written_and_none_is_replaced(run, base, tmp_path):
    page = tmp_path / "pages" / "plan.html"
    command = ("plan", base, "--method", "lora", "--length", "8", "--html", page)
    assert run(*command)[0] == 0
    assert "The memory of a step of LlamaForCausalLM" in page.read_text()
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert "plan.html exists already" in err
    assert run(*command, "--overwrite")[0] == 0


def test_json_is_what_the_function_gives(run, base, config):
    options = ("--method", "lora", "--set", "lora.r=4", "--set", "lora.target_modules=[q_proj]")
    code, out, _ = run("plan", base, *options, "--batch", "2", "--length", "16", "--json")
    assert code == 0
    given = lora.LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj"])
    plan = lora.plan(config, "lora", given, batch=2, length=16)
    found = json.loads(out)
    assert found == plan.to_dict()
    assert found["peak_bytes"] == plan.peak_bytes
    assert found["trainable_parameters"] == 4 * (32 + 32)


def test_json_of_several_methods_has_each(run, base):
    code, out, _ = run("plan", base, "--method", "lora,full", "--length", "8", "--json")
    assert code == 0
    assert set(json.loads(out)["plans"]) == {"lora", "full"}


def test_devices_have_a_table_of_their_own_by_formula(run, base):
    options = ("--method", "lora,full", "--length", "16", "--devices", "2", "--parallel", "fsdp")
    code, out, _ = run("plan", base, *options)
    assert code == 0
    _, _, devices = out.split("\n\n")
    assert devices.startswith("On each of 2 devices with fsdp, by formula:")
    head, *rows = devices.splitlines()[1:4]
    assert head.split()[-2:] == ["communication", "peak"]
    assert [row.split()[0] for row in rows] == ["lora", "full"]
    assert "torch.distributed.fsdp.fully_shard" in devices


def test_json_of_devices_is_the_functions(run, base, config):
    options = ("--method", "full", "--length", "8", "--devices", "2", "--parallel", "tp", "--json")
    code, out, _ = run("plan", base, *options)
    assert code == 0
    plan = lora.plan(config, "full", length=8, devices=2, parallel="tp")
    assert json.loads(out)["device"] == plan.device.to_dict()


def test_step_is_what_the_options_say(run, base, config):
    options = ("--method", "prefix_layer", "--batch", "4", "--length", "16", "--dtype", "fp32")
    kinds = ("--reentrant", "--token-budget", "32", "--quantised", "nf4")
    code, out, _ = run("plan", base, *options, *kinds, "--json")
    assert code == 0
    step = {"checkpointing": "reentrant", "token_budget": 32, "quantised": "nf4"}
    plan = lora.plan(config, "prefix_layer", batch=4, length=16, dtype="fp32", **step)
    assert json.loads(out) == plan.to_dict()
    _, out, _ = run("plan", base, *options, *kinds)
    words = "micro-batches of 2 rows, reentrant checkpointing, base in nf4 by formula"
    assert words in out


def test_fit_names_changes_and_what_they_cost(run, base, config):
    options = ("--batch", "8", "--length", "64", "--dtype", "fp32", "--fit", "1MB")
    code, out, _ = run("plan", base, *options)
    assert code == 0
    head, columns, *rows = out.splitlines()
    assert "8 x 64 tokens in fp32 with adamw" in head
    assert head.endswith("too much for 1.00 MB")
    assert columns.split() == ["what", "fits", "peak", "time", "effect"]
    assert rows[0].startswith("micro-batches of ")
    code, out, _ = run("plan", base, *options, "--json")
    found = lora.plan_to_fit(config, "1MB", batch=8, length=64, dtype="fp32")
    assert json.loads(out) == found.to_dict()


def test_page_of_fit_has_the_answers(run, base, tmp_path):
    options = ("--batch", "8", "--length", "64", "--dtype", "fp32", "--fit", "1MB")
    assert run("plan", base, *options, "--html", tmp_path / "fit.html")[0] == 0
    page = (tmp_path / "fit.html").read_text(encoding="utf-8")
    assert "What fits into 1.00 MB" in page
    assert "micro-batches of" in page


def test_fit_that_is_impossible_says_by_how_much(run, base):
    code, _, err = run("plan", base, "--batch", "2", "--length", "16", "--fit", "10kB")
    assert code == 1
    assert "the smallest peak that was found is" in err
    assert "too much" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--devices", "0"), "devices is 0; it must be a whole number of at least 1"),
        (("--devices", "3", "--parallel", "tp"), "num_attention_heads 2 is not divisible"),
        (("--devices", "2", "--parallel", "zero"), "must be one of ddp, fsdp, tp"),
        (("--method", "lorra"), "did you mean 'lora'?"),
        (("--batch", "0"), "batch is 0; it must be a whole number of at least 1"),
        (("--optimizer", "adam"), "optimizer is 'adam'; it must be one of adamw"),
        (("--length", "4096"), "length is 4096, and LlamaForCausalLM has 2048 positions"),
        (("--method", "full", "--quantised", "nf4"), "there are none with full"),
        (("--fit", "16 gibs"), "--fit='16 gibs' is no number of bytes"),
        (
            ("--fit", "1GB", "--method", "lora,full"),
            "--fit is for one method, and here are 2",
        ),
        (("--fit", "1GB", "--claims"), "--fit and --claims are two questions"),
        (("--claims",), "the claims are of gpt3-175b"),
        (("--claims", "--dtype", "fp32"), "--dtype is given"),
        (("--claims", "--set", "lora.r=8"), "--set is given"),
        (("--set", "lora.rank=4"), "unknown setting lora.rank"),
    ],
)
def test_plan_names_what_is_wrong(run, base, options, message):
    code, _, err = run("plan", base, *options)
    assert code == 1
    assert message in err
