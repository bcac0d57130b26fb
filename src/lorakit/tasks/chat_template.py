"""Conversations through a tokenizer's chat template: their tokens, and which of them are learned.

The conversation is rendered and tokenized once, as the model will see it. Which of its tokens are
an assistant turn, the template's `{% generation %}` block says. Without one, a turn goes from the
end of its generation prompt to the end of the conversation up to it, with its closing token, so
that the model learns to stop, and without the white space between turns. It never reaches into the
next message: what closes a whole conversation alone is no part of a turn before the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.conversations import Conversation
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.text_models.decoder import Labelled

Span = tuple[int, int]

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


def render(tokenizer: Any, conversation: Conversation, prompt: bool = False) -> str:
    """The text of a conversation, with `prompt` up to the beginning of the next assistant turn."""
    return str(_apply(tokenizer, conversation, tokenize=False, add_generation_prompt=prompt))


def labelled(tokenizer: Any, conversation: Conversation) -> Labelled:
    """Ids of the whole conversation, and labels for the turns that are learned."""
    text = render(tokenizer, conversation)
    if _MARKED.search(_template(tokenizer, conversation)):
        ids, mask = _marked(tokenizer, conversation)
        kept = _learned_runs(tokenizer, conversation, mask)
        return ids, [i if k else IGNORED for i, k in zip(ids, kept, strict=True)]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    spans = [
        _span(tokenizer, conversation, number, text)
        for number, turn in enumerate(conversation.turns)
        if turn.learned
    ]
    return ids, [
        i if any(start < end and stop > begin for begin, end in spans) else IGNORED
        for i, (start, stop) in zip(ids, offsets, strict=True)
    ]


def _marked(tokenizer: Any, conversation: Conversation) -> tuple[list[int], list[int]]:
    """Ids, and 1 for those that are an assistant turn by the template's marks."""
    encoded = _apply(
        tokenizer, conversation, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return encoded["input_ids"], encoded["assistant_masks"]


def _learned_runs(tokenizer: Any, conversation: Conversation, mask: list[int]) -> list[bool]:
    """The mask without turns that are not learned.

    A template may mark one turn in several runs of tokens; how many, the conversation up to the
    turn tells.
    """
    answers = [i for i, turn in enumerate(conversation.turns) if turn.is_answer]
    if all(conversation.turns[i].learned for i in answers):
        return list(map(bool, mask))
    turn_of_run: list[int] = []
    for i in answers:
        through = replace(conversation, turns=conversation.turns[: i + 1])
        runs = _runs(_marked(tokenizer, through)[1])
        turn_of_run += [i] * (runs - len(turn_of_run))
    if len(turn_of_run) != _runs(mask):
        raise ConfigError(
            "The chat template marks other tokens as assistant turns when others follow, so the "
            "tokens of a turn that is not learned cannot be located; leave out its weight."
        )
    numbers = iter(turn_of_run)
    kept: list[bool] = []
    for marked, run in groupby(mask):
        learned = bool(marked) and conversation.turns[next(numbers)].learned
        kept += [learned] * len(list(run))
    return kept


def _runs(mask: Sequence[int]) -> int:
    return sum(1 for marked, _ in groupby(mask) if marked)


def _span(tokenizer: Any, conversation: Conversation, turn: int, text: str) -> Span:
    """The characters of a turn: from its prompt's end to its closing token."""
    turns = conversation.turns
    first = text.partition(turns[turn].content.strip() or text)[0]
    before = replace(conversation, turns=turns[:turn])
    prompt = render(tokenizer, before, prompt=True) if turn else first
    if text.startswith(prompt):
        stop = _stop(tokenizer, conversation, turn, text, len(prompt))
        if stop is not None:
            return len(prompt), stop
    raise ConfigError(
        "The chat template does not render an assistant turn as a continuation of its "
        "generation prompt, so the turn's tokens cannot be located; put {% generation %} "
        "around assistant turns in the template.",
        [f"turn {turn + 1}: {turns[turn].text[:60]!r}"],
    )


def _stop(
    tokenizer: Any, conversation: Conversation, turn: int, text: str, start: int
) -> int | None:
    """The end of a turn: where the conversation up to it ends, if that begins `text`.

    Templates that close the last turn alone, or a whole conversation, write the same without the
    special tokens at its end where something follows; None if the end is not found.
    """
    up_to = replace(conversation, turns=conversation.turns[: turn + 1])
    alone = render(tokenizer, up_to).rstrip()
    found = next(filter(text.startswith, _without_ends(tokenizer, alone)), None)
    if found == alone:
        return len(alone)
    if found is not None and not render(tokenizer, up_to, prompt=True).startswith(alone):
        return len(found)
    stop = _closing(tokenizer, conversation, turn, text, start, alone)
    return stop if stop is not None or found is None else len(found)


def _without_ends(tokenizer: Any, text: str) -> Iterator[str]:
    """The text, and what is left of it without each of the special tokens at its end."""
    yield text
    while end := _last_special(tokenizer, text):
        text = text.removesuffix(end).rstrip()
        yield text


def _closing(
    tokenizer: Any, conversation: Conversation, turn: int, text: str, start: int, alone: str
) -> int | None:
    """The end of a turn that a template renders otherwise when others follow it.

    Templates drop its reasoning there. The first special token between the content and the next
    message closes the turn; a turn without content (a tool call) ends as it does `alone`.
    """
    limit = _next_content(tokenizer, conversation, turn, text)
    content = conversation.turns[turn].content.strip()
    if content:
        at = text.find(content, start, limit)
        after = at + len(content)
        ends = [(text.find(token, after, limit), len(token)) for token in _special(tokenizer)]
        stops = [begin + length for begin, length in ends if begin >= 0]
        return min(stops) if at >= 0 and stops else None
    end = _last_special(tokenizer, alone)
    at = text.find(end, start, limit) if end else -1
    stop = at + len(end)
    return stop if at >= 0 and alone.endswith(text[start:stop]) else None


def _next_content(tokenizer: Any, conversation: Conversation, turn: int, text: str) -> int:
    """Where the next message's content begins: up to there the text is the same for another one."""
    turns = [*conversation.turns]
    following = turns[turn + 1]
    other = "!" if following.content.strip().startswith("?") else "?"
    content = following.message["content"]
    parts = [{"type": "text", "text": other}] if isinstance(content, list) else other
    turns[turn + 1] = replace(following, message={**following.message, "content": parts})
    changed = render(tokenizer, replace(conversation, turns=turns))
    differs = (at for at, (one, two) in enumerate(zip(text, changed, strict=False)) if one != two)
    return next(differs, min(len(text), len(changed)))


def _last_special(tokenizer: Any, text: str) -> str:
    """The special token at the end of the text, or nothing."""
    return max(filter(text.endswith, _special(tokenizer)), key=len, default="")


def _special(tokenizer: Any) -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}


def _apply(tokenizer: Any, conversation: Conversation, **options: Any) -> Any:
    if tokenizer.chat_template is None:
        raise ConfigError(
            "The tokenizer has no chat template, which the task chat needs; use a base that has "
            "one, or for prompts and completions of text the task generation."
        )
    messages = conversation.messages
    try:
        return tokenizer.apply_chat_template(messages, tools=conversation.tools, **options)
    except Exception as error:  # a template raises what it likes
        begins = json.dumps(messages, ensure_ascii=False, default=str)[:100]
        raise ConfigError(
            f"The tokenizer's chat template raised an error for a conversation: {error}",
            [f"the conversation begins {begins}"],
        ) from error


def _template(tokenizer: Any, conversation: Conversation) -> str:
    if not tokenizer.is_fast:
        raise ConfigError(
            "The task chat needs a fast tokenizer, for the offsets of tokens; this one is slow."
        )
    return str(tokenizer.get_chat_template(tools=conversation.tools))
