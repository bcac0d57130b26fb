"""Places of tokens and virtual tokens: each place is taken once, and nothing is lost."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakit.methods.prefixes.layout import layout, real_tokens


@st.composite
def cases(draw):
    """Prefix, infix, and for each row padding on the left, prompt, completion and padding."""
    counts = st.integers(0, 4)
    prefix, infix = draw(counts), draw(counts)
    length = draw(st.integers(1, 8))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, length))
        end = draw(st.integers(start, length))
        rows.append((start, end, draw(st.integers(end, length))))
    return prefix, infix, length, rows


@given(cases(), st.booleans())
def test_each_place_is_taken_once_and_read_where_it_is(case, causal):
    prefix, infix, length, rows = case
    starts, ends, _ = map(torch.tensor, zip(*rows, strict=True))
    place = layout(prefix, infix, starts, ends, length, causal)
    tokens = torch.arange(length).expand(len(rows), -1) + 1
    virtual = -torch.arange(1, prefix + infix + 1).expand(len(rows), -1)
    spread = place.spread(tokens, virtual)
    for row, (start, end, _) in enumerate(rows):
        before, prompt, after = tokens[row].tensor_split([start, end])
        parts = [before, virtual[row, :prefix], prompt, virtual[row, prefix:], after]
        wanted = torch.cat(parts)
        assert spread[row].tolist() == wanted.tolist()
        read = place.outputs(spread)[row].tolist()
        expected = tokens[row].tolist()
        if causal and end > 0:
            expected[end - 1] = int(wanted[end + prefix + infix - 1])
        assert read == expected
    replaced = place.replace(spread, torch.zeros_like(virtual))
    assert replaced.tolist() == spread.clamp(min=0).tolist()


@given(cases())
def test_positions_go_on_through_the_virtual_tokens(case):
    prefix, infix, length, rows = case
    starts, ends, _ = map(torch.tensor, zip(*rows, strict=True))
    count = torch.arange(length).expand(len(rows), -1)
    positions = (count - starts[:, None]).clamp(min=0)
    found = layout(prefix, infix, starts, ends, length, True).positions(positions)
    for row, start in enumerate(starts.tolist()):
        if start < length:
            size = length + prefix + infix - start
            assert found[row, start:].tolist() == list(range(size))


@given(cases())
def test_real_tokens_are_found_between_padding(case):
    _, _, length, rows = case
    count = torch.arange(length)
    mask = torch.stack([(count >= start) & (count < stop) for start, _, stop in rows])
    starts, ends = real_tokens(mask)
    for row, (start, _, stop) in enumerate(rows):
        wanted = (start, stop) if stop > start else (length, length)
        assert (int(starts[row]), int(ends[row])) == wanted
