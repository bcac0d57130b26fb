"""What a cutoff takes away, and what it leaves."""

from __future__ import annotations

import pytest
import torch

from lorakit.losses import augmentations

LENGTHS = [20, 9, 30, 3]
CUT = [int(0.3 * length) for length in LENGTHS]


def inputs(left: bool = False) -> dict[str, torch.Tensor]:
    """Rows of different lengths, padded on one side."""
    mask = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    for row, length in zip(mask, LENGTHS, strict=True):
        row[-length if left else 0 : None if left else length] = 1
    ids = torch.randint(5, 50, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def erased(view, batch, ratio=0.3):
    """The view's inputs, and which numbers of an embedding of ones it makes zero."""
    second, edit = view(batch, ratio)
    states = torch.ones(*batch["input_ids"].shape, 16)
    return second, edit(states) == 0


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", ["without_tokens", "without_span"])
def test_whole_tokens_are_zero_and_masked(name, left):
    batch = inputs(left)
    second, zero = erased(getattr(augmentations, name), batch)
    tokens = zero.all(-1)
    assert torch.equal(tokens, zero.any(-1))
    assert not (tokens & (batch["attention_mask"] == 0)).any()  # padding was not drawn
    assert torch.equal(second["attention_mask"], batch["attention_mask"] * ~tokens)
    assert torch.equal(second["input_ids"], batch["input_ids"])
    for row, most in zip(tokens, CUT, strict=True):
        assert bool(most) <= int(row.sum()) <= most


@pytest.mark.parametrize("left", [False, True])
def test_a_span_is_one_run_of_the_share(left):
    _, zero = erased(augmentations.without_span, inputs(left))
    for row, size in zip(zero.all(-1), CUT, strict=True):
        places = row.nonzero().flatten()
        assert len(places) == size
        if size:
            assert int(places[-1] - places[0]) + 1 == size


def test_each_place_of_a_span_occurs():
    batch = {"input_ids": torch.ones(2000, 10, dtype=torch.long)}
    _, zero = erased(augmentations.without_span, batch)
    starts = zero.all(-1).long().argmax(-1)
    counts = torch.bincount(starts, minlength=8)
    assert counts[7] == 0  # start = int(U * (10 - 3)), as the authors' code draws it
    assert counts[:7].min() > 2000 / 7 * 0.8


def test_tokens_are_drawn_with_replacement():
    batch = {"input_ids": torch.ones(4000, 10, dtype=torch.long)}
    _, zero = erased(augmentations.without_tokens, batch)
    counts = zero.all(-1).sum(-1).float()
    different = 10 * (1 - 0.9**3)  # of three draws among ten
    assert float(counts.mean()) == pytest.approx(different, abs=0.05)


def test_features_are_zero_for_all_tokens_of_an_example():
    batch = inputs()
    second, zero = erased(augmentations.without_features, batch)
    assert second is batch
    columns = zero.all(1)
    assert torch.equal(columns, zero.any(1))
    assert all(1 <= int(row.sum()) <= int(0.3 * 16) for row in columns)
    assert len({tuple(row.tolist()) for row in columns}) > 1  # each example has its own


def test_features_keep_the_type_of_the_embeddings():
    _, edit = augmentations.without_features(inputs(), 0.3)
    assert edit(torch.ones(4, 30, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_unknown_tokens_replace_their_share_and_spare_special_ones():
    ids = torch.randint(0, 50, (200, 100))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    second, edit = augmentations.with_unknown_tokens(batch, 0.2, unknown=3, special=[0, 1, 2])
    assert edit is None
    assert second["attention_mask"] is batch["attention_mask"]
    changed = second["input_ids"] != ids
    assert (second["input_ids"][changed] == 3).all()
    assert not changed[ids < 3].any()
    plain = ids > 3
    assert float(changed[plain].float().mean()) == pytest.approx(0.2, abs=0.02)


def test_the_same_seed_takes_the_same_away():
    for view in (
        augmentations.without_tokens,
        augmentations.without_span,
        augmentations.without_features,
    ):
        torch.manual_seed(3)
        one = erased(view, batch := inputs())[1]
        torch.manual_seed(3)
        assert torch.equal(one, erased(view, inputs())[1])
        assert not torch.equal(one, erased(view, batch)[1])


def test_without_a_mask_every_token_counts():
    batch = {"input_ids": torch.ones(3, 10, dtype=torch.long)}
    second, zero = erased(augmentations.without_span, batch)
    assert second is batch
    assert zero.all(-1).sum(-1).tolist() == [3, 3, 3]


def test_a_share_below_one_token_takes_nothing_away():
    batch = inputs()
    second, zero = erased(augmentations.without_tokens, batch, ratio=0.01)
    assert not zero.any()
    assert torch.equal(second["attention_mask"], batch["attention_mask"])
