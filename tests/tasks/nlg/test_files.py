"""The files of E2E, WebNLG and DART, in small and, where they are there, whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.errors import ConfigError, FormatError
from lorakit.tasks.nlg.corpora import read_corpus
from lorakit.tasks.nlg.e2e import linearise
from lorakit.tasks.nlg.inputs import Entry, split_triple, table_of, triples_text
from lorakit.tasks.nlg.webnlg import SEEN_CATEGORIES

MR = "name[The Mill], eatType[pub], priceRange[£20-25], familyFriendly[yes], near[Café, Rouge]"
LINE = (
    "name : The Mill | Type : pub | price : £ 20 - 25 | family friendly : yes | near : Café, Rouge"
)

WEBNLG_XML = """<benchmark><entries>
<entry category="Airport" eid="Id1" size="2">
 <originaltripleset><otriple>x | y | z</otriple></originaltripleset>
 <modifiedtripleset><mtriple>A_B | cityServed | "C | D"</mtriple><mtriple>A_B | x | 1</mtriple>
 </modifiedtripleset>
 <lex comment="good" lid="Id1">One.</lex><lex comment="toFix" lid="Id2">Bad.</lex>
 <lex comment="good" lid="Id3">Two.</lex>
</entry>
<entry category="Artist" eid="Id2" size="1">
 <modifiedtripleset><mtriple>E | genre | F</mtriple></modifiedtripleset>
 <lex comment="good" lid="Id1">Three.</lex>
</entry>
<entry category="Artist" eid="Id3" size="1">
 <modifiedtripleset><mtriple>E | genre | G</mtriple></modifiedtripleset>
 <lex comment="toFix" lid="Id1">Bad alone.</lex>
</entry></entries></benchmark>"""


def webnlg_json() -> str:
    def entry(category: str, triples: list[tuple[str, str, str]], lexes: list[tuple[str, str]]):
        return {
            "category": category,
            "modifiedtripleset": [
                {"subject": s, "property": p, "object": o} for s, p, o in triples
            ],
            "lexicalisations": [{"lex": lex, "comment": comment} for lex, comment in lexes],
        }

    first = entry(
        "Airport",
        [("A_B", "cityServed", '"C | D"'), ("A_B", "x", "1")],
        [("One.", "good"), ("Bad.", "toFix"), ("Two.", "good")],
    )
    second = entry("Artist", [("E", "genre", "F")], [("Three.", "good")])
    third = entry("Artist", [("E", "genre", "G")], [("Bad alone.", "toFix")])
    return json.dumps({"entries": [{"1": first}, {"2": second}, {"3": third}]})


WEBNLG_LINES = "\n".join(
    json.dumps(row)
    for row in (
        {"category": "Airport", "triples": ['A_B | cityServed | "C | D"', "A_B | x | 1"],
         "lexs": ["One.", "Two."], "seen": True},
        {"category": "Artist", "triples": ["E | genre | F"], "lexs": ["Three."], "seen": False},
    )
)  # fmt: skip


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def columns(folder: Path, task: str, name: str, text: str) -> dict[str, list[object]]:
    return read_corpus(write(folder, name, text), task).to_dict()


def test_e2e_reads_the_csv_file_as_microsofts_text_with_references_of_an_input_together(tmp_path):
    csv = f'"mr","ref"\n"{MR}","First."\n"name[X]","Other."\n"{MR}"," Second. "\n'
    text = f"{LINE}||First.\nname : X||Other.\n\n{LINE}||Second. \n"
    expected = {"input": [LINE, "name : X"], "references": [["First.", "Second."], ["Other."]]}
    assert columns(tmp_path, "e2e", "train.csv", csv) == expected
    assert columns(tmp_path, "e2e", "train.txt.gz", text) == expected


@pytest.mark.parametrize("meaning", ["", "name", "name[A] area[B]", "name[A], area", "[A]"])
def test_a_meaning_that_is_none_is_refused(meaning):
    with pytest.raises(FormatError, match="is not a meaning representation"):
        linearise(meaning)


@pytest.mark.parametrize(
    ("name", "text"),
    [("t.xml", WEBNLG_XML), ("t.json", webnlg_json()), ("t.jsonl", WEBNLG_LINES)],
)
def test_webnlg_keeps_good_lexicalisations_and_says_what_is_unseen(tmp_path, name, text):
    assert columns(tmp_path, "webnlg", name, text) == {
        "input": ['A_B : cityServed : "C | D" | A_B : x : 1', "E : genre : F"],
        "references": [["One.", "Two."], ["Three."]],
        "category": ["Airport", "Artist"],
        "seen": [True, False],
    }


def test_webnlg_of_2020_has_comments_that_are_empty(tmp_path):
    xml = WEBNLG_XML.replace('comment="good"', 'comment=""')
    expected = columns(tmp_path, "webnlg", "a.xml", WEBNLG_XML)
    assert columns(tmp_path, "webnlg", "b.xml", xml) == expected
    assert columns(tmp_path, "webnlg", "c.json", webnlg_json().replace("good", "")) == expected


def test_webnlg_of_several_languages_is_refused(tmp_path):
    xml = WEBNLG_XML.replace('lid="Id3"', 'lang="ru"').replace('lid="Id1"', 'lang="en"')
    with pytest.raises(FormatError, match="texts in en and ru; keep those of one language"):
        columns(tmp_path, "webnlg", "a.xml", xml)


def test_a_folder_is_all_its_files(tmp_path):
    """WebNLG's training set is `train/1triples/Airport.xml` and so on."""
    for name in ("1triples/Airport.xml", "2triples/Food.xml"):
        (tmp_path / "train" / name).parent.mkdir(parents=True)
        entry = "<entry category='Food'><mtriple>{0} | b | c</mtriple><lex>{0}.</lex></entry>"
        write(tmp_path / "train", name, f"<a>{entry.format(name[0])}{entry.format('x')}</a>")
    (tmp_path / "train/readme.txt").write_text("About.")
    table = read_corpus(str(tmp_path / "train"), "webnlg").to_dict()
    assert table["input"] == ["1 : b : c", "x : b : c", "2 : b : c"]
    assert table["references"] == [["1."], ["x.", "x."], ["2."]]


def test_a_folder_is_refused_with_what_is_wrong_in_it(tmp_path):
    def refusal(error: type[Exception], task: str = "webnlg") -> str:
        with pytest.raises(error) as caught:
            read_corpus(str(tmp_path), task)
        return str(caught.value)

    write(tmp_path, "Food.xml", "<a>")
    assert "Food.xml cannot be read: it is not XML" in refusal(FormatError)
    assert "no file that can be read as e2e; pass a folder" in refusal(ConfigError, "e2e")
    write(tmp_path, "a.jsonl", WEBNLG_LINES)
    assert "kinds .jsonl, .xml, in which entries can stand twice" in refusal(ConfigError)


def test_dart_lowers_relations_and_takes_every_annotation(tmp_path):
    rows = [
        {"tripleset": [["Mars Hill", "JOINED", "1973"]],
         "annotations": [{"source": "s", "text": "A."}, {"source": "t", "text": "B."}]},
        {"tripleset": [["X", "[TITLE]", "Y"]], "annotations": [{"source": "s", "text": "C."}]},
        {"tripleset": [["Mars Hill", "joined", "1973"]],
         "annotations": [{"source": "s", "text": "D."}]},
    ]  # fmt: skip
    xml = (
        "<benchmark><entries>"
        "<entry><modifiedtripleset><mtriple>Mars Hill | JOINED | 1973</mtriple>"
        "</modifiedtripleset><lex comment='s'>A.</lex><lex comment='t'>B.</lex></entry>"
        "<entry><modifiedtripleset><mtriple>X | [TITLE] | Y</mtriple></modifiedtripleset>"
        "<lex comment='s'>C.</lex></entry>"
        "<entry><modifiedtripleset><mtriple>Mars Hill | joined | 1973</mtriple>"
        "</modifiedtripleset><lex comment='s'>D.</lex><lex comment='s'> </lex></entry>"
        "</entries></benchmark>"
    )
    expected = {
        "input": ["Mars Hill : joined : 1973", "X : [title] : Y"],
        "references": [["A.", "B.", "D."], ["C."]],
    }
    assert columns(tmp_path, "dart", "dev.json", json.dumps(rows)) == expected
    assert columns(tmp_path, "dart", "test.xml", xml) == expected


def test_own_inputs_have_one_reference_or_many(tmp_path):
    many = '{"prompt": "a", "references": ["x", "y"]}\n{"prompt": "b", "references": ["z"]}\n'
    one = (
        '{"prompt": "a", "reference": "x"}\n{"prompt": "b", "reference": "z"}\n'
        '{"prompt": "a", "reference": "y"}\n'
    )
    microsofts = one.replace("prompt", "context").replace("reference", "completion")
    expected = {"input": ["a", "b"], "references": [["x", "y"], ["z"]]}
    for text in (many, one, microsofts):
        assert columns(tmp_path, "data_to_text", "own.jsonl", text) == expected


def test_blank_references_of_own_inputs_are_left_out(tmp_path):
    text = '{"prompt": "a", "references": ["x", "", " "]}'
    expected = {"input": ["a"], "references": [["x"]]}
    assert columns(tmp_path, "data_to_text", "own.jsonl", text) == expected


@pytest.mark.parametrize(
    ("task", "name", "text", "expected"),
    [
        ("e2e", "a.csv", 'mr\n"name[A]"\n"name[B]"\n', ["name : A", "name : B"]),
        ("e2e", "a.csv", 'mr,ref\n"name[A]",\n', ["name : A"]),
        (
            "webnlg",
            "a.xml",
            "<a><entry><mtriple>a | b | c</mtriple></entry></a>",
            ["a : b : c"],
        ),
        (
            "webnlg",
            "a.json",
            '{"entries": [{"1": {"modifiedtripleset": '
            '[{"subject": "a", "property": "b", "object": "c"}]}}]}',
            ["a : b : c"],
        ),
        ("webnlg", "a.jsonl", '{"triples": ["a | b | c"]}', ["a : b : c"]),
        ("dart", "a.json", '[{"tripleset": [["a", "B", "c"]]}]', ["a : b : c"]),
        ("data_to_text", "a.jsonl", '{"prompt": "a"}\n{"prompt": "b"}', ["a", "b"]),
    ],
)
def test_inputs_alone_are_read_for_texts_to_be_written(tmp_path, task, name, text, expected):
    table = read_corpus(write(tmp_path, name, text), task)
    assert table["input"][:] == expected
    assert "references" not in table.column_names


@pytest.mark.parametrize(
    ("task", "name", "text", "error", "message"),
    [
        (
            "e2e",
            "a.jsonl",
            "{}",
            ConfigError,
            "cannot be read as e2e; pass a file that ends in .csv",
        ),
        ("e2e", "a.txt", "one|two", FormatError, "line 1"),
        ("e2e", "a.csv", "a,b\n1,2\n", FormatError, "no column mr"),
        ("e2e", "a.csv", 'mr,ref\n"name[A]"," "\n"name[B]",b\n', FormatError, "name : A"),
        ("webnlg", "a.xml", "<entries>", FormatError, "is not XML"),
        ("webnlg", "a.json", "[]", FormatError, "is not WebNLG's JSON"),
        ("webnlg", "a.jsonl", '{"triples": "A", "lexs": ["x"]}', FormatError, "line 1: triples"),
        ("webnlg", "a.jsonl", '{"triples": ["A"], "lexs": ["x"]}', FormatError, "is not a triple"),
        ("dart", "a.json", '{"a": 1}', FormatError, "is not DART's JSON"),
        ("data_to_text", "a.jsonl", '{"text": "A"}', FormatError, "no column 'prompt'"),
        ("data_to_text", "a.jsonl", '{"prompt": ["A"], "references": ["B"]}', FormatError, "row 1"),
        ("data_to_text", "a.jsonl", '{"prompt": ["A"]}', FormatError, "row 1"),
        (
            "data_to_text",
            "a.jsonl",
            '{"prompt": "\\ud83d"}',
            FormatError,
            "row 1",
        ),
        ("data_to_text", "a.jsonl", '{"prompt": "A", "references": []}', FormatError, "row 1"),
        ("data_to_text", "a.jsonl", '{"prompt": "A", "references": [" "]}', FormatError, "row 1"),
        ("webnlg", "a.jsonl", '{"triples": [1], "lexs": ["x"]}', FormatError, "1 is not a triple"),
        (
            "webnlg",
            "a.jsonl",
            '{"triples": ["a | b | c"], "lexs": ["x"], "seen": "no"}',
            FormatError,
            "line 1: seen is neither true nor false",
        ),
        (
            "webnlg",
            "a.jsonl",
            '{"triples": ["a | b | c"], "lexs": [null]}',
            FormatError,
            "a reference of entry 1 is not a string: None",
        ),
        (
            "webnlg",
            "a.jsonl",
            '{"triples": [], "lexs": ["x"]}',
            FormatError,
            "entry 1 has an empty",
        ),
        (
            "dart",
            "a.json",
            '[{"tripleset": [["a", "b", "c"]], "annotations": [{"text": null}]}]',
            FormatError,
            "a reference of entry 1 is not a string: None",
        ),
        (
            "dart",
            "a.xml",
            "<a><entry><lex>x</lex></entry></a>",
            FormatError,
            "entry 1 has an empty",
        ),
        ("e2e", "a.txt", "||reference", FormatError, "entry 1 has an empty input"),
        ("e2e", "b.csv", None, FormatError, "does not exist"),
    ],
)
def test_other_files_are_refused_with_what_was_found(tmp_path, task, name, text, error, message):
    path = str(tmp_path / name) if text is None else write(tmp_path, name, text)
    with pytest.raises(error, match="b.csv" if text is None else "a\\.") as caught:
        read_corpus(path, task)
    assert message in str(caught.value)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text("xyz", min_size=1)), min_size=1))
def test_no_reference_is_lost_and_no_input_is_doubled(rows):
    table = table_of(Entry(text, [reference]) for text, reference in rows)
    assert len(set(table["input"])) == len(table["input"])
    for text, references in zip(table["input"], table["references"], strict=True):
        assert references == [reference for other, reference in rows if other == text]


def test_a_triple_keeps_bars_of_its_object():
    assert triples_text([split_triple("a | b | c | d")]) == "a : b : c | d"


@pytest.mark.parametrize(
    ("task", "file", "inputs", "references"),
    [
        ("e2e", "e2e_nlg/testset_w_refs.csv.gz", 630, 4_693),
        ("e2e", "e2e_nlg/devset.csv.gz", 547, 4_672),
        ("webnlg", "webnlg2017/test.jsonl.gz", 1_862, 4_928),
        ("webnlg", "webnlg2017/dev.jsonl.gz", 871, 2_268),
        ("dart", "dart/dev.json.gz", 2_721, 6_980),
        ("dart", "dart/test.xml.gz", 4_159, 12_551),  # one of 12,552 is blank
    ],
)
def test_real_files_have_the_known_numbers(shared, task, file, inputs, references):
    table = read_corpus(str(shared / "data" / file), task)
    assert (len(table), sum(map(len, table["references"]))) == (inputs, references)
    assert len(set(table["input"])) == inputs


def test_some_inputs_of_dart_have_more_than_six_references(shared):
    counts = [*map(len, read_corpus(str(shared / "data/dart/test.xml.gz"), "dart")["references"])]
    assert (sum(count > 6 for count in counts), max(counts)) == (88, 35)


@pytest.mark.parametrize(("csv", "text"), [("devset", "valid"), ("testset_w_refs", "test")])
def test_inputs_of_e2e_are_microsofts_inputs(shared, csv, text):
    ours = read_corpus(str(shared / f"data/e2e_nlg/{csv}.csv.gz"), "e2e")
    theirs = read_corpus(str(shared / f"data/e2e_nlg/lora_format/{text}.txt.gz"), "e2e")
    assert ours["input"][:] == theirs["input"][:]
    assert [*map(len, ours["references"])] == [*map(len, theirs["references"])]


def test_unseen_categories_of_webnlg_are_those_that_the_file_says(shared):
    table = read_corpus(str(shared / "data/webnlg2017/test.jsonl.gz"), "webnlg")
    assert sum(table["seen"]) == 971
    assert [category in SEEN_CATEGORIES for category in table["category"]] == table["seen"][:]
