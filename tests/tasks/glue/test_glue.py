"""GLUE's files and `datasets` give the same examples, and what does not fit is said."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from lorakit.errors import ConfigError, FormatError, MismatchError
from lorakit.tasks.columns import resolve
from lorakit.tasks.glue.benchmark import GLUE, HUB, make_glue_task, require_label_order
from lorakit.tasks.glue.files import glue_tables, read_glue
from lorakit.tasks.spec import Columns
from tests import glue_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return glue_samples.write_folder(tmp_path_factory.mktemp("glue"))


@pytest.fixture
def hub(monkeypatch) -> None:
    def load(path: str, name: str, split: str) -> object:
        assert path == HUB
        return glue_samples.hub_split(name, split)

    monkeypatch.setattr(datasets, "load_dataset", load)


def splits() -> list[tuple[str, str]]:
    return [
        (name, split)
        for name, task in GLUE.items()
        for kind in ("train", "dev", "test")
        for split in task.splits(kind).values()
    ]


def rows(table: object) -> list[dict[str, object]]:
    return list(table)  # type: ignore[call-overload]


@pytest.mark.parametrize(("name", "split"), splits())
def test_folder_and_datasets_give_the_same_examples(name, split, folder, hub):
    ours, theirs = (read_glue(source, GLUE[name], split) for source in (str(folder), HUB))
    assert ours.column_names == theirs.column_names
    for one, other in zip(rows(ours), rows(theirs), strict=True):
        assert one == pytest.approx(other)  # STS-B's numbers are float32 on the Hub
    assert ("label" in ours.column_names) == (not split.startswith("test"))


@pytest.mark.parametrize("name", GLUE)
def test_texts_are_those_of_the_file_with_quotes_and_spaces(name, folder):
    task = GLUE[name]
    table = read_glue(str(folder), task, "train")
    expected = [row[:-1] for row in glue_samples.ROWS[name]]
    assert [tuple(row[c] for c in task.text) for row in table] == expected


def test_zipped_files_a_tasks_own_folder_and_one_file_are_read_alike(tmp_path, folder):
    zipped = glue_samples.write_folder(tmp_path, zipped=True)
    task = GLUE["mrpc"]
    expected = rows(read_glue(str(folder), task, "dev"))
    for source in (zipped, zipped / "MRPC", zipped / "MRPC" / "dev.tsv.gz", folder / "MRPC"):
        assert rows(read_glue(str(source), task, "dev")) == expected


def test_labels_are_in_the_order_of_datasets_and_make_the_targets(folder):
    task = make_glue_task(GLUE["mnli"], 16)
    table = read_glue(str(folder), GLUE["mnli"], "dev_matched")
    assert task.targets({"label": table["label"]})["labels"] == [0, 1, 2, 0, 1, 2]
    assert task.head()["id2label"] == {0: "entailment", 1: "neutral", 2: "contradiction"}


def test_mnli_is_tested_on_two_tables_and_validated_on_one(folder):
    assert list(glue_tables(str(folder), GLUE["mnli"], "test")) == ["test", "mismatched"]
    assert list(glue_tables(str(folder), GLUE["mnli"], "validation")) == ["validation"]
    assert list(glue_tables(str(folder), GLUE["rte"], "test")) == ["test"]


def test_columns_are_known(folder):
    table = read_glue(str(folder), GLUE["qqp"], "train")
    expected = Columns("qqp", ("question1", "question2"), "label")
    assert resolve(table, Columns("qqp")) == resolve(table, expected) == expected
    with pytest.raises(
        ConfigError, match="columns of qqp are fixed: text question1, question2, label label"
    ):
        resolve(table, Columns("qqp", ("question2",)))


def test_a_question_of_qqp_may_be_empty_and_its_broken_lines_are_left_out(tmp_path):
    whole = [("the film", "", 0), ("the plot", "the plot", 1)]
    text = glue_samples.lines("qqp", whole) + "9\t1\t2\tthe film was\n"
    glue_samples.put(tmp_path / "QQP" / "train.tsv", text)
    table = read_glue(str(tmp_path), GLUE["qqp"], "train")
    assert len(table) == 2
    make_glue_task(GLUE["qqp"], 8).check(table)


def test_a_line_that_breaks_off_elsewhere_is_an_error(tmp_path):
    glue_samples.put(tmp_path / "RTE" / "dev.tsv", glue_samples.lines("rte", []) + "0\tthe film\n")
    with pytest.raises(FormatError, match=r"dev\.tsv is damaged: too few cells in row 1"):
        read_glue(str(tmp_path), GLUE["rte"], "dev")


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("mrpc", 2, r"labels that are not labels of mrpc \(not_equivalent, equivalent\)"),
        ("mrpc", "entailment", "'entailment': 1 row"),
        ("stsb", 5.2, r"numbers from 0 to 5"),
        ("stsb", "high", "'high': 1 row"),
        ("sst2", "", "no label: 1 row"),
    ],
)
def test_labels_out_of_range(name, label, message, tmp_path):
    row = (*glue_samples.ROWS[name][0][:-1], label)
    text = glue_samples.lines(name, [*glue_samples.ROWS[name], row])
    glue_samples.put(tmp_path / GLUE[name].folder / "train.tsv", text)
    with pytest.raises(FormatError, match=message):
        read_glue(str(tmp_path), GLUE[name], "train")


def test_a_label_by_number_is_no_label_where_files_write_names(tmp_path):
    text = glue_samples.lines("rte", [("a", "b", 0)]).replace("entailment", "0")
    glue_samples.put(tmp_path / "RTE" / "dev.tsv", text)
    with pytest.raises(FormatError, match="labels that are not labels of rte"):
        read_glue(str(tmp_path), GLUE["rte"], "dev")


def test_a_missing_file_is_named_with_those_that_are_there(folder, tmp_path):
    glue_samples.put(tmp_path / "RTE" / "train.tsv", "x")
    with pytest.raises(FormatError, match=r"RTE has no file dev\.tsv or dev\.tsv\.gz.*train\.tsv"):
        glue_tables(str(tmp_path), GLUE["rte"], "test")
    with pytest.raises(FormatError, match=r"has no file train\.tsv"):
        glue_tables(str(tmp_path), GLUE["cola"], "train")


def test_another_tasks_file_is_refused(folder):
    with pytest.raises(
        FormatError, match=r"not a file of mrpc: the columns #1 String, #2 String are missing"
    ):
        read_glue(str(folder / "RTE" / "dev.tsv"), GLUE["mrpc"], "dev")


@pytest.mark.parametrize("name", ["mrpc", "stsb"])
def test_files_without_labels_are_no_evaluation(name, folder):
    file = folder / GLUE[name].folder / "test.tsv"
    with pytest.raises(
        FormatError, match=r"has no labels .* GLUE publishes none for its test sets"
    ):
        glue_tables(str(file), GLUE[name], "test")


def test_an_unknown_task_is_suggested(folder):
    table = read_glue(str(folder), GLUE["mrpc"], "train")
    with pytest.raises(ConfigError, match=r"task is 'mrcp' \(did you mean 'mrpc'\?\)"):
        resolve(table, Columns("mrcp"))


def test_label_order_is_checked():
    require_label_order(GLUE["rte"], ["Entailment", "not_entailment"], "x")
    with pytest.raises(MismatchError, match="those of rte are entailment, not_entailment"):
        require_label_order(GLUE["rte"], ["not_entailment", "entailment"], "x")


REAL = {
    ("cola", "train"): 8551, ("cola", "dev"): 1043, ("sst2", "train"): 67349, ("sst2", "dev"): 872,
    ("mrpc", "train"): 3668, ("mrpc", "dev"): 408, ("qnli", "dev"): 5463, ("wnli", "train"): 635,
    ("wnli", "dev"): 71,
}  # fmt: skip


@pytest.mark.parametrize(("name", "split"), REAL)
def test_real_files_have_their_published_sizes_and_labels(name, split, shared):
    table = read_glue(str(shared / "data" / "glue"), GLUE[name], split)
    assert len(table) == REAL[name, split]
    assert set(table["label"]) == set(GLUE[name].labels)
    make_glue_task(GLUE[name], 8).check(table)


def test_real_texts_keep_their_quotes(shared):
    first = read_glue(str(shared / "data" / "glue"), GLUE["mrpc"], "train")[0]
    assert first["sentence1"].count('"') == first["sentence2"].count('"') == 2
    assert first["label"] == "equivalent"
