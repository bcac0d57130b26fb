"""Texts and references from every kind of file that scorers read."""

from __future__ import annotations

import gzip
import json

import pytest

from lorakit.errors import ConfigError, FormatError
from lorakit.tasks.outputs import read_lines, read_outputs, read_references


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, content: str):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write_file


def test_an_empty_line_is_an_empty_text(write):
    assert read_lines(write("texts.txt", "a\n\nb\r\n")) == ["a", "", "b"]
    assert read_lines(write("texts.txt", "a\n\n")) == ["a", ""]


def test_groups_of_references_stand_between_empty_lines(write):
    file = write("references.txt", "a\nb\n\nc\n \n\nd\n\n")
    assert read_references("e2e", [file]).references == [["a", "b"], ["c"], ["d"]]


def test_a_file_without_empty_lines_has_one_reference_a_line(write):
    assert read_references("e2e", [write("r.txt", "a\nb\n")]).references == [["a"], ["b"]]


def test_several_files_stand_side_by_side(write):
    files = [write("r0.txt", "a\nb\n"), write("r1.txt", "\nc\n")]
    assert read_references("webnlg", files).references == [["a", ""], ["b", "c"]]


def test_files_of_different_lengths_are_refused_with_their_lengths(write):
    files = [write("r0.txt", "a\nb\n"), write("r1.txt", "c\n")]
    with pytest.raises(FormatError, match=r"r0.txt: 2[\s\S]*r1.txt: 1"):
        read_references("webnlg", files)


def test_the_corpus_own_file_is_read_with_what_is_seen(write):
    row = {"triples": ["a | b | c"], "lexs": ["A b c."], "category": "Food", "seen": True}
    truth = read_references("webnlg", [write("test.jsonl", json.dumps(row))])
    assert (truth.references, truth.seen) == ([["A b c."]], [True])
    truth = read_references("e2e", [write("test.csv", 'mr,ref\nname[X],X.\nname[X],"An X."\n')])
    assert truth.references == [["X.", "An X."]]
    truth = read_references("e2e", [write("test.txt", "name : X||X.\nname : X||An X.\n")])
    assert truth.references == [["X.", "An X."]]


def test_a_text_for_each_entry_is_told_that_inputs_have_several(write):
    entry = "<entry><mtriple>{} | b | c</mtriple><lex>{}</lex></entry>"
    entries = "".join(entry.format(*pair) for pair in ("xA", "yB", "xC"))
    references = write("test.xml", f"<benchmark>{entries}</benchmark>")
    with pytest.raises(ConfigError) as caught:
        read_outputs("dart", write("texts.txt", "a\nb\nc\n"), [references])
    assert "3 texts, but references for 2 texts are in" in caught.value.headline
    assert "whose 3 entries are put together by input" in caught.value.headline


def test_rows_of_predictions_bring_their_references(write):
    rows = [
        {"input": "x", "references": ["a", "b"], "seen": True, "prediction": "c"},
        {"input": "y", "references": ["d"], "seen": False, "prediction": None},
    ]
    file = write("p.jsonl", "\n".join(map(json.dumps, rows)))
    texts, truth = read_outputs("webnlg", file)
    assert texts == ["c", ""]
    assert (truth.references, truth.seen) == ([["a", "b"], ["d"]], [True, False])
    _, truth = read_outputs("webnlg", file, [write("r.txt", "e\nf\n")])
    assert truth.references == [["e"], ["f"]]


def test_texts_stand_in_a_column_of_a_csv_file(write):
    file = write("p.csv", 'input,prediction\na,"x, y"\nb,\n')
    texts, truth = read_outputs("e2e", file, [write("r.txt", "c\nd\n")])
    assert (texts, truth.references) == (["x, y", ""], [["c"], ["d"]])
    with pytest.raises(
        ConfigError, match=r"p\.csv contains no references; pass them with --references"
    ):
        read_outputs("e2e", file)


@pytest.mark.parametrize(
    "row", [{"prediction": ["a"], "references": "b"}, {"prediction": "a", "references": [["b"]]}]
)
def test_a_list_is_no_text_to_score(write, row):
    with pytest.raises(FormatError, match=r"p\.jsonl is a list, where text is wanted"):
        read_outputs("data_to_text", write("p.jsonl", json.dumps(row)))


def test_what_is_not_there_is_said(write, tmp_path):
    with pytest.raises(ConfigError, match="pass them with --references"):
        read_outputs("e2e", write("p.txt", "a\n"))
    with pytest.raises(FormatError, match=r"no column 'prediction'; its columns are text\."):
        read_outputs("e2e", write("p.jsonl", '{"text": "a"}'))
    with pytest.raises(FormatError, match="no column 'references'"):
        read_outputs("e2e", write("p.jsonl", '{"prediction": "a"}'))
    with pytest.raises(FormatError, match=r"nowhere\.txt cannot be read"):
        read_lines(tmp_path / "nowhere.txt")


def test_gzip_is_read_and_damage_is_said(tmp_path):
    path = tmp_path / "r.txt.gz"
    path.write_bytes(gzip.compress(b"a\nb\n"))
    assert read_references("e2e", [path]).references == [["a"], ["b"]]
    path.write_bytes(gzip.compress(b"a\nb\n")[:-9])
    with pytest.raises(FormatError, match="cannot be read"):
        read_lines(path)
