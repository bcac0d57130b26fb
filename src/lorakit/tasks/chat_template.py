"""Conversations through a tokenizer's chat template: their tokens, and which of them are learned.

The conversation is rendered and tokenized once, as the model will see it. Which of its tokens are
an assistant turn, the template's `{% generation %}` block says. Without one, a turn goes from the
end of its generation prompt to the end of the conversation up to it, with its closing token, so
that the model learns to stop, and without the white space between turns.

The arguments of a tool call are an object, or JSON of one in a text (OpenAI). A template that would
write such a text as a string, with its quotes escaped, is given the object.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.conversations import Conversation
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.messages import argument_texts, with_argument_objects
from lorakit.tasks.text_models.decoder import Labelled

Span = tuple[int, int]

_TRIED = 100
"""Conversations with a part after which it is said to be unread."""
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


def render(tokenizer: Any, conversation: Conversation, prompt: bool = False) -> str:
    """The text of a conversation, with `prompt` up to the beginning of the next assistant turn."""
    return str(_apply(tokenizer, conversation, tokenize=False, add_generation_prompt=prompt))


def labelled(tokenizer: Any, conversation: Conversation) -> Labelled:
    """Ids of the whole conversation, and labels for the turns that are learned."""
    if _MARKED.search(_template(tokenizer, conversation)):
        ids, mask = _marked(tokenizer, conversation)
        kept = _learned_runs(tokenizer, conversation, mask)
        return ids, [i if k else IGNORED for i, k in zip(ids, kept, strict=True)]
    text = render(tokenizer, conversation)
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


def unread(tokenizer: Any, conversations: Iterable[Conversation]) -> list[str]:
    """What conversations hold and the template does not write: it renders the same without that."""
    tried: Counter[str] = Counter()
    is_read: set[str] = set()
    for conversation in conversations:
        for part, rest in _without_each_part(conversation):
            if part not in is_read and tried[part] < _TRIED:
                tried[part] += 1
                if _differs(tokenizer, conversation, rest):
                    is_read.add(part)
    return [part for part in tried if part not in is_read]


def _without_each_part(conversation: Conversation) -> Iterator[tuple[str, Conversation]]:
    """Each part that a template may leave out, and the conversation without it."""
    turns = conversation.turns
    if conversation.tools:
        yield "tools", replace(conversation, tools=None)
    others = [turn for turn in turns if turn.message["role"] != "system"]
    if len(others) < len(turns):
        yield "system messages", replace(conversation, turns=others)
    keys = dict.fromkeys(key for turn in turns for key in turn.message)
    for key in [key for key in keys if key not in ("role", "content")]:
        rest = [replace(turn, message={k: v for k, v in turn.message.items() if k != key})
                for turn in turns]  # fmt: skip
        yield f"the key {key!r} of messages", replace(conversation, turns=rest)


def _differs(tokenizer: Any, one: Conversation, other: Conversation) -> bool:
    try:
        return render(tokenizer, one) != render(tokenizer, other)
    except ConfigError:  # the template needs the part
        return True


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
    """The characters of a turn: from its prompt's end to its closing token.

    Some templates render a turn otherwise when others follow it (they drop its reasoning). There
    the content is looked for, and the first special token after it closes the turn.
    """
    turns = conversation.turns
    content = str(turns[turn].message["content"] or "").strip()
    before, up_to = (replace(conversation, turns=turns[:end]) for end in (turn, turn + 1))
    first = text.partition(content or text)[0]
    prompt = render(tokenizer, before, prompt=True) if turn else first
    through = render(tokenizer, up_to)
    if text.startswith(prompt) and text.startswith(through):
        return len(prompt), len(through.rstrip())
    at = text.find(content, len(prompt)) if content and text.startswith(prompt) else -1
    if at < 0:
        raise ConfigError(
            "The chat template does not render an assistant turn as a continuation of its "
            "generation prompt, so the turn's tokens cannot be located; put {% generation %} "
            "around assistant turns in the template.",
            [f"turn {turn + 1}: {turns[turn].text[:60]!r}"],
        )
    return len(prompt), _closing(tokenizer, text, at + len(content))


def _closing(tokenizer: Any, text: str, stop: int) -> int:
    """The end of the first special token from `stop` on, or `stop`."""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    found = [(text.find(token, stop), len(token)) for token in special]
    return min((at + length for at, length in found if at >= 0), default=stop)


def _apply(tokenizer: Any, conversation: Conversation, **options: Any) -> Any:
    messages, tools = conversation.messages, conversation.tools
    try:
        if texts := argument_texts(messages):
            plain = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
            if any(json.dumps(text, ensure_ascii=False) in plain for text in texts):
                messages = with_argument_objects(messages)
        return tokenizer.apply_chat_template(messages, tools=tools, **options)
    except Exception as error:  # a template raises what it likes
        begins = json.dumps(messages, ensure_ascii=False, default=str)[:100]
        raise ConfigError(
            f"The tokenizer's chat template raised an error for a conversation: {error}",
            [f"the conversation begins {begins}"],
        ) from error


def _template(tokenizer: Any, conversation: Conversation) -> str:
    if tokenizer.chat_template is None:
        raise ConfigError(
            "The tokenizer has no chat template, which the task chat needs; use a base that has "
            "one, or for prompts and completions of text the task generation."
        )
    if not tokenizer.is_fast:
        raise ConfigError(
            "The task chat needs a fast tokenizer, for the offsets of tokens; this one is slow."
        )
    return str(tokenizer.get_chat_template(tools=conversation.tools))
