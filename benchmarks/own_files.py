"""Files as people have them, with something to learn: letters to a shop, made from templates."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TOPICS: dict[str, tuple[str, ...]] = {
    "billing": ("I was charged twice for {}", "the invoice for {} shows the wrong amount",
                "my refund for {} has not arrived", "why is the price of {} higher than agreed"),
    "delivery": ("the parcel with {} is late", "{} came to the wrong address",
                 "the courier left {} in the rain", "tracking says {} never left the warehouse"),
    "quality": ("{} broke after one day", "a part of {} is missing", "{} has a deep scratch",
                "the colour of {} has nothing to do with the picture"),
    "account": ("I cannot log in to see {}", "please change the email that I bought {} with",
                "my password is refused when I order {}", "delete my profile and the list with {}"),
}  # fmt: skip
THINGS = ("the blue lamp", "two chairs", "my desk", "the garden table", "a set of knives",
          "the rug", "the kettle", "that shelf", "three pillows", "the mirror")  # fmt: skip
OPENINGS = ("Hello,", "Good morning,", "Hi team,", "Once more:", "Dear all,", "Help!")
CLOSINGS = ("Thank you.", "Please answer soon.", "Best, Ann", "", "I am waiting.", "Regards")
OPINIONS = {1: ("awful", "useless", "broken"), 2: ("poor", "flimsy", "disappointing"),
            3: ("acceptable", "average", "all right"), 4: ("good", "solid", "pleasant"),
            5: ("wonderful", "perfect", "excellent")}  # fmt: skip
TEACHERS = {
    "plural": ("Give the plural.", "Two of them: {}s."),
    "loud": ("Write it in capitals.", "{U}!"),
    "buy": ("Turn it into an order.", "Please send me one {} by Friday."),
}
NOUNS = ("lamp", "chair", "desk", "table", "kettle", "mirror", "pillow", "clock", "stool", "basket",
         "carpet", "candle", "drawer", "curtain", "blanket", "bottle")  # fmt: skip

PEOPLE = ("Ann", "Bilal", "Chloe", "David", "Elif", "Farid", "Greta", "Hugo", "Ivan", "Jonas")
FAMILIES = ("Smith", "Kowalski", "Garcia", "Tanaka", "Okafor", "Jensen", "Rossi", "Novak")
PLACES = ("Paris", "Lagos", "Kyoto", "Lima", "Oslo", "Prague", "Porto", "Austin", "Cairo", "Delhi")
SENTENCES = ("{P} ordered {t} to {L} .", "please send {t} to {P} in {L} .", "{t} never left {L} .",
             "I spoke with {P} about {t} .", "is {P} still in {L} ?")  # fmt: skip

Row = dict[str, Any]


def complaint(draw: random.Random, topic: str) -> str:
    """A sentence about one topic."""
    return draw.choice(TOPICS[topic]).format(draw.choice(THINGS))


def letter(draw: random.Random, *topics: str) -> str:
    """A letter with a sentence about each topic."""
    said = " and ".join(complaint(draw, topic) for topic in topics)
    return f"{draw.choice(OPENINGS)} {said}. {draw.choice(CLOSINGS)}".strip()


def tickets(draw: random.Random) -> Row:
    """Three classes, half of them billing."""
    team = draw.choice(["billing", "billing", "delivery", "account"])
    return {"text": letter(draw, team), "label": team}


def ratings(draw: random.Random) -> Row:
    """Stars with a fraction: the mean of two opinions, in the range of a shop's points."""
    stars = draw.choices(range(1, 6), k=2)
    first, second = (draw.choice(OPINIONS[star]) for star in stars)
    thing = draw.choice(NOUNS)
    return {
        "review": f"The {thing} is {first}, and the service was {second}.",
        "rating": sum(stars) / 2 + draw.choice((0.0, 0.1, -0.1)),
    }


def pairs(draw: random.Random) -> Row:
    """Two letters: about the same thing, or not."""
    one, other = draw.sample([*TOPICS], 2)
    same = draw.random() < 0.54
    second = one if same else other
    return {
        "text_a": letter(draw, one),
        "text_b": letter(draw, second),
        "label": "same" if same else "different",
    }


def multi_label(draw: random.Random) -> Row:
    """A letter about one to three topics."""
    topics = draw.sample([*TOPICS], draw.choice((1, 1, 2, 3)))
    return {"text": letter(draw, *topics), "labels": sorted(topics)}


def instruction(draw: random.Random) -> tuple[str, str, str]:
    """An instruction, its input and the output."""
    asked, answer = draw.choice([*TEACHERS.values()])
    noun = draw.choice(NOUNS)
    return asked, noun, answer.format(noun, U=noun.upper())


def alpaca(draw: random.Random) -> Row:
    return dict(zip(("instruction", "input", "output"), instruction(draw), strict=True))


def chat(draw: random.Random) -> Row:
    """A question and its answer."""
    asked, noun, answer = instruction(draw)
    return {
        "messages": [
            {"role": "user", "content": f"{asked} {noun}"},
            {"role": "assistant", "content": answer},
        ]
    }


def sharegpt(draw: random.Random) -> Row:
    """Two questions and their answers."""
    turns = []
    for asked, noun, answer in (instruction(draw), instruction(draw)):
        turns += [{"from": "human", "value": f"{asked} {noun}"}, {"from": "gpt", "value": answer}]
    return {"conversations": turns}


def texts(draw: random.Random) -> Row:
    """A letter as it is filed: of a form that can be learned."""
    topic = draw.choice([*TOPICS])
    return {"text": f"To the department of {topic}. {letter(draw, topic)}"}


def gaps(draw: random.Random) -> Row:
    """A ticket of a table with holes: most notes are empty, and here and there a text."""
    row = tickets(draw)
    text = "" if draw.random() < 0.05 else row["text"]
    return {"note": draw.choice(("", "", "", "urgent")), "text": text, "label": row["label"]}


def entities(draw: random.Random) -> Row:
    """A sentence's words and the tags of people and places in it."""
    words, tags = [], []
    for part in draw.choice(SENTENCES).split():
        if part == "{P}":
            new = [(draw.choice(PEOPLE), "B-PER"), (draw.choice(FAMILIES), "I-PER")]
        elif part == "{L}":
            new = [(draw.choice(PLACES), "B-LOC")]
        else:
            said = draw.choice(THINGS) if part == "{t}" else part
            new = [(word, "O") for word in said.split()]
        words += [word for word, _ in new]
        tags += [tag for _, tag in new]
    return {"words": words, "tags": tags}


def made(make: Callable[[random.Random], Row], rows: int, seed: int = 0) -> list[Row]:
    """That many rows."""
    draw = random.Random(seed)
    return [make(draw) for _ in range(rows)]


def write_json_lines(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_json(path: Path, rows: Sequence[Row]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Row], separator: str = ",", mark: bool = False) -> None:
    """With another separator, or the byte order mark that spreadsheets put first."""
    with path.open("w", newline="", encoding="utf-8-sig" if mark else "utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0]], delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    from datasets import Dataset

    Dataset.from_list([*rows]).to_parquet(path)


def write_conll(path: Path, rows: Sequence[Row]) -> None:
    """A word a line with its tag, and an empty line after a sentence."""
    sentences = (zip(row["words"], row["tags"], strict=True) for row in rows)
    blocks = ("".join(f"{word} {tag}\n" for word, tag in sentence) for sentence in sentences)
    path.write_text("\n".join(blocks), encoding="utf-8")


def write_text(path: Path, rows: Sequence[Row]) -> None:
    """One text a line."""
    path.write_text("".join(row["text"] + "\n" for row in rows), encoding="utf-8")
