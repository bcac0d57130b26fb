"""Files of columns: what is a sentence, a comment, a tag, and which text is none of that."""

from __future__ import annotations

import pytest

from lorakit.errors import FormatError
from lorakit.tables import read_table
from lorakit.tables.conll import is_tagged, may_be_columns, parse_conll

TWO = "EU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n"
SENTENCES = {
    "tokens": [["EU", "rejects"], ["Peter", "Blackburn"]],
    "tags": [["B-ORG", "O"], ["B-PER", "I-PER"]],
}


@pytest.mark.parametrize(
    "text",
    [
        TWO,
        TWO.replace(" ", "\t"),
        TWO.replace(" ", "   "),
        TWO.replace("\n", "\r\n"),
        f"\n\n{TWO}\n \n\t\n",
        f"-DOCSTART- O\n\n{TWO}",
        TWO.replace("\n\n", "\n-DOCSTART- -X- O O\n"),
        f"# id 12\n# text = EU rejects\n{TWO}",
        f"# newdoc\n\n# id\n{TWO}",
        TWO.replace("O\n", "O \n"),
    ],
)
def test_sentences_of_two_columns(text) -> None:
    assert parse_conll(text) == SENTENCES


def test_the_last_of_four_columns_is_the_tag_and_the_others_stay() -> None:
    found = parse_conll("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")
    assert [*found] == ["tokens", "column_2", "column_3", "tags"]
    assert (found["column_2"], found["tags"]) == ([["NNP", "VBZ"]], [["B-ORG", "O"]])


def test_a_hash_is_a_word_where_its_line_is_as_the_others() -> None:
    text = "# id 1\n# O\n1 B-X\n\n#tag B-X\n# 2\n\n1 O\n# O\n"
    assert parse_conll(text)["tokens"] == [["#", "1"], ["#tag", "#"], ["1", "#"]]


def test_a_comment_as_wide_as_the_columns_is_told_by_its_end() -> None:
    text = "# id 7e5a domain=en\nthe _ _ O\ncity _ _ B-LOC\n"
    assert parse_conll(text)["tokens"] == [["the", "city"]]


def test_words_of_other_white_space_and_with_spaces_between_tabs_stay() -> None:
    assert parse_conll("a\xa0 O\n\u2028 O\n\x85 B-X\n")["tokens"] == [["a\xa0", "\u2028", "\x85"]]
    assert parse_conll("New York\tB-LOC\nis\tO")["tokens"] == [["New York", "is"]]


def test_numbers_of_words_are_left_out_as_in_conll_u() -> None:
    text = "# text = al mar\n1-2\tal\t_\t_\n1\ta\tADP\t_\n2\tel\tDET\t_\n\n1\tsi\tINTJ\t_\n"
    found = parse_conll(text)
    assert found["tokens"] == [["a", "el"], ["si"]]
    assert found["column_3"] == [["ADP", "DET"], ["INTJ"]]
    assert parse_conll("1 O\n\n1 B-X\n")["tokens"] == [["1"], ["1"]], "two columns have no number"


def test_one_column_is_words_alone() -> None:
    assert parse_conll("EU\nrejects\n\nPeter\n") == {"tokens": [["EU", "rejects"], ["Peter"]]}


def test_lines_of_another_width_are_listed() -> None:
    with pytest.raises(FormatError, match="most of its lines have 2 columns") as caught:
        parse_conll(f"{TWO}\nlost\na b c\n")
    assert caught.value.problems == ("line 7 has 1: lost", "line 8 has 3: a b c")
    with pytest.raises(FormatError, match="no words"):
        parse_conll("# only a comment\n-DOCSTART- O\n")


@pytest.mark.parametrize("suffix", [".conll", ".bio", ".iob", ".iob2", ".conllu", ".conll.gz"])
def test_files_are_read_by_their_suffix(suffix, tmp_path) -> None:
    import gzip

    file, text = tmp_path / f"a{suffix}", TWO.encode("utf-8-sig")
    file.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    table = read_table(str(file))
    assert {name: table[name][:] for name in table.column_names} == SENTENCES


def test_a_text_file_of_tagged_columns_is_read_as_such_and_prose_is_not(tmp_path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(TWO)
    assert read_table(str(file))["tokens"][:] == SENTENCES["tokens"]
    file.write_text(f"{TWO}\n" * 100 + "lost\n")
    with pytest.raises(FormatError, match="has 1: lost"):
        read_table(str(file))
    file.write_text("Some prose.\nOf several lines.\n")
    assert "tokens" not in read_table(str(file)).column_names


@pytest.mark.parametrize(
    ("text", "tagged", "even"),
    [
        (TWO, True, True),
        ("EU NNP B-NP S-ORG\nis VBZ O O\n", True, True),
        ("The DET\ndog NOUN\n", False, True),
        ("Blood type O\nBlood type B\n", False, True),
        ("One line of prose.\nAnd another that is longer.\n\nEnd\n", False, False),
        ("O\nO\nB-X\n", False, False),
        ("Ann sleeps\nBob eats\n", False, True),
        ("", False, False),
    ],
)
def test_a_text_is_of_columns_if_all_lines_end_in_tags_of_entities(text, tagged, even) -> None:
    assert (is_tagged(text.splitlines()), may_be_columns(text)) == (tagged, even)
