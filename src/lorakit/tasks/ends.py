"""Where a completion ends: the token that training marks as its end.

    ids     p p p c c e p p c c e        p: the prompt's tokens, c: a completion's, e: its end
    labels  - - - c c e - - c c e        -: IGNORED

In generation such a token has to stop the model, whatever the base's own EOS is: a base may end a
text with <|endoftext|>, and its chat template a turn with <|im_end|>.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lorakit.errors import ConfigError, suggest

IGNORED = -100
"""The label of a token that the loss ignores, as in torch's cross_entropy."""


def end_tokens(tokenizer: Any, labels: Iterable[Sequence[int]], max_length: int) -> list[int]:
    """The ids of the special tokens by which the labelled completions end, the most frequent first.

    A completion that no token closes ends with a piece of its text. One that ends at `max_length`
    may have been truncated, so these count only where all do.
    """
    special = {*tokenizer.all_special_ids}
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    whole: Counter[int] = Counter()
    full: Counter[int] = Counter()
    for row in labels:
        for i in _last_labels(row):
            if row[i] in special:
                (full if i + 1 == max_length else whole)[row[i]] += 1
    return [token for token, _ in (whole or full).most_common()]


def no_end_message(tokenizer: Any) -> str:
    """That no end is learned, and how to have one."""
    known = [t for t in (tokenizer.eos_token, *tokenizer.all_special_tokens) if t is not None]
    such = f", such as {known[0]!r}" if known else ""
    return (
        "No end is learned: in the training data no special token closes a completion or an "
        "assistant's turn within data.max_length, so generation goes on to max_new_tokens. Set "
        f"data.end_token to the token of the tokenizer that closes it{such}."
    )


def end_id(tokenizer: Any, token: str) -> int:
    """The id of a token that `data.end_token` names; raises ConfigError if there is none."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    if token not in vocabulary:
        raise ConfigError(
            f"data.end_token is {token!r}, which is no token of the tokenizer"
            f"{suggest(token, tokenizer.all_special_tokens)}; name one, such as "
            f"{', '.join(map(repr, tokenizer.all_special_tokens[:5])) or 'one of its vocabulary'}."
        )
    return vocabulary[token]


def with_end(ids: Sequence[int], labels: Sequence[int], end: int) -> tuple[list[int], list[int]]:
    """The example with `end` as the label after each completion that it does not close already.

    The text stays as the template writes it, since generation will see it so; only the example's
    own end gets the token as an input as well.

    >>> with_end([1, 2, 7, 3, 4], [IGNORED, 2, IGNORED, IGNORED, 4], end=9)
    ([1, 2, 7, 3, 4, 9], [-100, 2, 9, -100, 4, 9])
    """
    longer_ids, longer = [*ids], [*labels]
    for i in _last_labels(labels):
        if labels[i] == end:
            continue
        if i + 1 < len(ids):
            longer[i + 1] = end
        else:
            longer_ids, longer = [*ids, end], [*longer, end]
    return longer_ids, longer


def _last_labels(labels: Sequence[int]) -> Iterator[int]:
    """The positions of the last label of each stretch that the loss counts."""
    for i, label in enumerate(labels):
        if label != IGNORED and (i + 1 == len(labels) or labels[i + 1] == IGNORED):
            yield i
