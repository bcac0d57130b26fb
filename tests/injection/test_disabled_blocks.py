"""Blocks of `disabled` in any order: the base's output until the last one of a model is left."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack

import pytest
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import StateError
from lorakit.surgery.disabling import here
from tests.injection.interrupting import interrupted
from tests.injection.test_disabled import FILES, Net, adapted, output
from tests.tolerances import EXACT


def gives(model: nn.Module, x: Tensor, expected: Tensor) -> None:
    assert_close(output(model, x), expected, **EXACT)


# --- one context, several times


def test_a_context_is_entered_again() -> None:
    model, x, base, y = adapted(modules_to_save=["head"])
    block = lora.disabled(model)
    for _ in range(3):
        with block:
            gives(model, x, base)
        gives(model, x, y)


def test_a_context_inside_itself_is_left_with_the_outer_one() -> None:
    model, x, base, y = adapted(modules_to_save=["head"])
    block = lora.disabled(model)
    with block:
        with block:
            with block:
                gives(model, x, base)
            gives(model, x, base)
        gives(model, x, base)
    gives(model, x, y)


def test_a_context_inside_itself_is_left_with_the_outer_one_after_an_exception() -> None:
    model, x, base, y = adapted()
    block = lora.disabled(model)
    with block:
        with pytest.raises(ValueError, match="inside"), block:
            raise ValueError("inside")
        gives(model, x, base)
    gives(model, x, y)


def test_a_context_that_two_threads_share_is_left_by_each() -> None:
    model, x, base, y = adapted()
    block = lora.disabled(model)

    def visit() -> None:
        with block:
            gives(model, x, base)
        gives(model, x, y)

    with block:
        thread = threading.Thread(target=visit)
        thread.start()
        thread.join()
        gives(model, x, base)
    gives(model, x, y)


def test_a_context_is_about_what_is_adapted_on_entry() -> None:
    model, x, base, _ = adapted()
    block = lora.disabled(model)
    lora.eject(model)
    with pytest.raises(StateError, match="no adapters"), block:
        pass
    lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    assert not output(model, x).equal(base)
    with block:
        gives(model, x, base)


# --- decorated functions


def test_a_decorated_function_calls_itself() -> None:
    model, x, base, y = adapted(modules_to_save=["head"])

    @lora.disabled(model)
    def outputs(depth: int) -> list[Tensor]:
        """Before and after its own call."""
        inner = outputs(depth - 1) if depth else []
        return [*inner, output(model, x)]

    for found in outputs(3):
        assert_close(found, base, **EXACT)
    gives(model, x, y)
    assert (outputs.__name__, outputs.__doc__) == ("outputs", "Before and after its own call.")


def test_a_decorated_function_that_raises_leaves_the_adapters_on() -> None:
    model, x, _, y = adapted()

    @lora.disabled(model)
    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    gives(model, x, y)


def test_a_function_is_decorated_before_the_model_is_adapted() -> None:
    model = Net().eval()
    reference = lora.disabled(model)(output)
    with pytest.raises(StateError, match="no adapters"):
        reference(model, model.head.weight.new_zeros(1, 6))
    lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    x = model.head.weight.detach().clone()
    assert not output(model, x).equal(reference(model, x))


def test_an_interrupt_of_a_decorated_function_leaves_the_adapters_on() -> None:
    """Although the function, which lives on, holds what decorates it."""
    model, x, _, y = adapted()

    @lora.disabled(model)
    def rest() -> None:
        pass

    at = 0
    while interrupted(rest, at, FILES):
        assert here.disabled == ()
        gives(model, x, y)
        at += 1
    assert at > 10


# --- several contexts


def test_contexts_are_left_in_another_order_than_they_were_entered() -> None:
    model, x, base, y = adapted()
    first, second = lora.disabled(model), lora.disabled(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    gives(model, x, base)
    second.__exit__(None, None, None)
    gives(model, x, y)


def test_contexts_of_two_models_are_interleaved() -> None:
    model, x, base, y = adapted()
    other, _, _, _ = adapted()
    one, two = lora.disabled(model), lora.disabled(other)
    with ExitStack() as stack:
        for block in (one, two, one):
            stack.enter_context(block)
        two.__exit__(None, None, None)
        gives(model, x, base)
        gives(other, x, y)
        one.__exit__(None, None, None)
        gives(model, x, base)
    gives(model, x, y)
    gives(other, x, y)


def test_a_context_that_is_dropped_while_open_is_left() -> None:
    model, x, base, y = adapted()
    block = lora.disabled(model)
    block.__enter__()
    gives(model, x, base)
    del block
    gives(model, x, y)


# --- the end of a program


def test_contexts_that_are_there_when_python_ends_say_nothing() -> None:
    program = """
        import torch, lorakit as lora
        model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        lora.inject(model, lora.LoraConfig(r=1, target_modules="all-linear"))
        left = lora.disabled(model)
        with left:
            pass
        entered = lora.disabled(model)
        entered.__enter__()
        decorated = lora.disabled(model)(print)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
