"""A conversation with a session's model: each answer comes word by word, and is kept.

    system, user, assistant, user, assistant, ..., user -> the next answer

Where the model reads a chat template, it sees all of that, and the oldest turns are dropped when
they no longer fit. A model that was trained without one sees the last message alone, as a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from lorakit.errors import ConfigError
from lorakit.inference.batch_generation import generate_batch
from lorakit.inference.generation import decoding_of
from lorakit.inference.prediction import inference_context
from lorakit.inference.session import Session
from lorakit.inference.streaming import Say
from lorakit.methods.registry import extra_positions
from lorakit.models.stop_tokens import set_stop_tokens
from lorakit.recipe.data import text_limit
from lorakit.recipe.decoding import DecodingConfig
from lorakit.tables.cells import is_blank, text_problem
from lorakit.tasks.base import TRUNCATED
from lorakit.tasks.chat import Chat
from lorakit.tasks.generation import CausalTask, require_generating
from lorakit.tasks.messages import ASSISTANT, Message

NEW_TOKENS = 512
"""Of an answer at most, where neither recipe nor caller says how many, and the model has room."""


@dataclass(frozen=True)
class Answer:
    """What the model said to a message."""

    text: str
    dropped: int
    """The number of turns that no longer fitted, and are forgotten."""
    interrupted: bool
    """Whether Ctrl-C ended it."""


@dataclass
class Dialogue:
    """What was said so far; `answer` goes on."""

    session: Session
    task: CausalTask
    decoding: DecodingConfig
    system: list[Message]
    """The system message, if there is one."""
    turns: list[Message] = field(default_factory=list)
    """What user and assistant said, in turn."""

    @property
    def messages(self) -> list[Message]:
        return [*self.system, *self.turns]

    def answer(self, text: str, say: Say = lambda part: None) -> Answer:
        """The model's answer, of which `say` is told each part as it comes.

        KeyboardInterrupt ends the answer. An exchange with an empty answer is not kept. Raises
        ConfigError for what is no text, and for a message that is too long for the model alone.
        """
        if problem := "is empty" if is_blank(text) else text_problem(text):
            raise ConfigError(f"The message {text[:60]!r} {problem}.")
        asked: Message = {"role": "user", "content": text}
        prompt, dropped = self._prompt(asked)
        found, interrupted = self._generated(prompt, say)
        if found:
            self.turns += [asked, {"role": ASSISTANT, "content": found}]
        return Answer(found, dropped, interrupted)

    def clear(self) -> None:
        """Forget all but the system message."""
        self.turns.clear()

    def _prompt(self, asked: Message) -> tuple[list[int], int]:
        """The tokens of the conversation up to the answer, and how many turns had to go."""
        before = len(self.turns)
        while True:
            cell = self.task.conversation_cell([*self.messages, asked])
            encoded = self.task.prompts(self.session.tokenizer, {self.task.text[0]: [cell]})
            too_many = int(encoded[TRUNCATED][0])
            if not too_many:
                return encoded["input_ids"][0], before - len(self.turns)
            if not self.turns or not self.task.keeps_history:
                raise ConfigError(
                    f"The message is {too_many} tokens too long: beside an answer of "
                    f"{self.decoding.new_token_limit} tokens the model has room for "
                    f"{self.task.max_length}. Shorten it, or set --max-new-tokens lower."
                )
            del self.turns[:2]

    def _generated(self, prompt: list[int], say: Say) -> tuple[str, bool]:
        """The answer, and whether it was interrupted."""
        parts: list[str] = []

        def tell(part: str) -> None:
            parts.append(part)
            say(part)

        model, tokenizer = self.session.model, self.session.tokenizer
        try:
            with torch.no_grad():
                return generate_batch(model, tokenizer, [prompt], self.decoding, tell)[0], False
        except KeyboardInterrupt:
            return "".join(parts), True


@contextmanager
def dialogue(
    session: Session,
    decoding: DecodingConfig | None = None,
    system: str | None = None,
    in_template: bool = True,
) -> Iterator[Dialogue]:
    """A conversation that has not begun; inside, LoRA's adapters run merged in float32.

    An adapter alone that does not say how it was trained is asked in the chat template of its
    tokenizer, if there is one, unless `in_template` is false.

    Raises ConfigError for a model that generates no text, for a system message that it would not
    see, and if max_new_tokens leaves no room for a prompt.
    """
    task = _conversing(session, in_template)
    if system is not None and not task.keeps_history:
        raise ConfigError(
            f"{session.source} reads no chat template (its task is {task.name}), so it would not "
            "see a system message; leave it out."
        )
    decoding = decoding_of(session) if decoding is None else decoding
    new_tokens = decoding.max_new_tokens
    if new_tokens is None:
        new_tokens = min(NEW_TOKENS, task.text_model.longest_completion(task.max_length))
    room, limit = task.text_model.lengths(task.max_length, new_tokens, NEW_TOKENS)
    task, decoding = replace(task, max_length=room), replace(decoding, max_new_tokens=limit)
    said: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    torch.manual_seed(decoding.seed)
    with inference_context(session):
        yield Dialogue(session, task, decoding, said)


def _conversing(session: Session, in_template: bool) -> CausalTask:
    """The session's task for messages, with the length that the model can read."""
    task = require_generating(session.task, session.source)
    tokenizer, recipe = session.tokenizer, session.recipe
    limit = text_limit(tokenizer, session.base, None if recipe is None else recipe.revision)
    limit -= extra_positions(session.model)
    is_open = not task.text and in_template  # no file says how it was trained
    if is_open and tokenizer.chat_template is not None and session.spec.in_template is not None:
        task = Chat((), None, limit)
        set_stop_tokens(session.model, tokenizer, task.stop_tokens(tokenizer))
    return replace(task, text=("messages",), label=None, max_length=limit)
