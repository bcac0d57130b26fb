"""Each thing that can be wrong with a sweep: one error that lists all, before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import GPT2Config

from lorakit import errors
from lorakit.experiments.sweep_file import load_sweep, runnable, sweep_file
from lorakit.recipe.yaml_file import mapping_text
from lorakit.recipe_files import sweep_files
from tests.experiments.sweeps import T, sweep, tiny_base


def problems(mapping) -> tuple[str, ...]:
    with pytest.raises(errors.ConfigError) as found:
        runnable(mapping)
    assert found.value.headline == "This sweep cannot be run:"
    return found.value.problems


BAD = [
    ({"task": "one"}, "unknown setting task (did you mean 'tasks'?)"),
    ({"seeds": []}, "seeds is empty; name one"),
    ({"seeds": [0, 0]}, "seeds has [0] twice"),
    ({"seeds": "0,1"}, "seeds is '0,1'; it must be a list of integers"),
    ({"tasks": []}, "tasks is empty; name one"),
    ({"methods": {}}, "methods is empty; name one"),
    ({"base": None}, "base is missing; name a model, or several in bases"),
    ({"bases": {"a": {"base": "b"}}}, "base and bases are both given; leave one of them out"),
    ({"base": None, "bases": {"a": {}}}, "bases.a.base is missing; name a model"),
    ({"validation": 0}, "validation is 0; it must be a share or a number of rows"),
    ({"statistic": "mode"}, "statistic is 'mode'; it must be one of mean, median"),
    (
        {"statistic": "median", "spread": "ci95"},
        "spread is ci95, which is an interval of the mean, and statistic is median; set spread to "
        "std, or statistic to mean",
    ),
    ({"reference": "full"}, "reference is 'full'; it must be one of head, lora"),
    (
        {"methods": ["lroa"]},
        "methods.lroa: there is no method 'lroa' (did you mean 'lora'?); set method",
    ),
    ({"methods": {"lora": 4}}, "methods.lora is 4; it must be a mapping of settings"),
    ({"settings": {"output": "o"}}, "settings.output is set by the sweep's output; leave it out"),
    (
        {"tasks": {"one": {"training.seed": 3}}},
        "tasks.one.training.seed is set by the sweep's seeds; leave it out",
    ),
    *(
        (
            {kind: {"training.seed": [1, 2]}},
            f"{kind}.training.seed is set by the sweep's seeds; leave it out",
        )
        for kind in ("grid", "choose")
    ),
    ({"grid": {"base": ["a", "b"]}}, "grid.base is set by the sweep's bases; leave it out"),
    (
        {"methods": {"lora": {"grid": {"method": ["lora", "full"]}}}},
        "methods.lora.grid.method is set by the sweep's methods; leave it out",
    ),
    ({"settings": {"method": "full"}}, "settings.method is set by the sweep's methods;"),
    ({"tasks": {"one": {"method": "full"}}}, "tasks.one.method is set by the sweep's methods;"),
    *(
        (changes, f"{place}.task is set by the sweep's tasks; leave it out")
        for place, changes in {
            "settings": {"settings": {"task": "mrpc"}},
            "grid": {"grid": {"task": ["mrpc", "rte"]}},
            "choose": {"choose": {"task": ["mrpc", "rte"]}},
            "bases.a": {"base": None, "bases": {"a": {"base": "b", "task": "mrpc"}}},
            "methods.lora": {"methods": {"lora": {"task": "mrpc"}}},
            "methods.lora.grid": {"methods": {"lora": {"grid": {"task": ["mrpc", "rte"]}}}},
        }.items()
    ),
    (
        {"settings": {"training": {"epochs": 3}, "training.epochs": 4}},
        "settings has training.epochs twice",
    ),
    ({"methods": ["lora", "lora"]}, "methods has ['lora'] twice"),
    ({"tasks": ["one", "one"]}, "tasks has ['one'] twice"),
    ({"grid": {"lora.r": 4}}, "grid.lora.r is 4; it must be a list of values"),
    ({"choose": {"lora.r": [4, 4]}}, "choose.lora.r is [4, 4], which has a value twice"),
    (
        {"grid": {"lora.r": [4]}, "choose": {"lora.r": [4]}},
        "methods.lora: lora.r is both in choose and in grid",
    ),
    ({"tasks": {"one": {"recipe": 3}}}, "tasks.one.recipe is 3; it must be a string"),
    ({"tasks": {"one": {"metrics": 3}}}, "tasks.one.metrics is 3; it must be a list of strings"),
    (
        {"tasks": {"one": {"recipe": "review"}}},
        "review is neither a file nor a shipped recipe (did you mean 'reviews'?)",
    ),
    (
        {"methods": {"lora_prefix": {"lora.r": 4}}},
        "methods.lora_prefix.lora.r is set, and method is lora_prefix; its own is lora_prefix.lora",
    ),
    (
        {"methods": {"pfeiffer": {"choose": {"houlsby.bottleneck": [4, 8]}}}},
        "methods.pfeiffer.choose.houlsby.bottleneck is set, and method is pfeiffer; its own is",
    ),
    (
        {"methods": {"lora": {"lora.rank": 4}}},
        "unknown setting methods.lora.lora.rank (did you mean",
    ),
    (
        {"methods": {"lora": {"choose": {"training.learning_rate": [-1.0, 1.0]}}}},
        "methods.lora.choose.training.learning_rate is -1.0; it must be",
    ),
    ({"settings": {1: {"a": 1}}}, "settings has 1, which is not the name of a setting"),
    ({"settings": {1: 2}}, "settings has 1, which is not the name of a setting"),
    ({"settings": {"lora.": 2}}, "settings has 'lora.', which is not the name of a setting"),
    ({"grid": {1: [2]}}, "grid has 1, which is not the name of a setting"),
    ({"methods": {"x": {"method": ["lora"]}}}, "methods.x: there is no method ['lora'] (did you"),
    ({"methods": {"": {"method": "lora"}}}, "methods has '', which is no name; name each of them"),
    ({"methods": {None: {"method": "lora"}}}, "methods has None, which is no name;"),
    ({"tasks": {" ": None}}, "tasks has ' ', which is no name; name each of them"),
    ({"tasks": ["", "one"]}, "tasks has '', which is no name; name each of them"),
    ({"base": None, "bases": {"": {"base": "b"}}}, "bases has '', which is no name;"),
    ({"base": "."}, "base is '.', which has no name; give it one in bases"),
    ({"base": None, "bases": {"a": {"base": 3}}}, "bases.a.base is 3; it must be a string"),
    ({"methods": {1: {"method": "lora"}, "1": {"method": "lora"}}}, "methods has 1 twice"),
    (
        {"methods": {"a": {"like": "b"}, "b": {"like": "a"}}},
        "methods.b.like is 'a', and so each is like the other: a, b",
    ),
    ({"methods": {"a": {"like": "lroa"}, "lora": {}}}, "methods.a.like is 'lroa' (did you mean 'l"),
    (
        {"recipe": "glue", "tasks": {"one": {"task": ["mrpc"]}}},
        "task is ['mrpc'] (did you mean 'mrpc'?); it must be one of",
    ),
    ({"published": [3]}, "published[1] must be a mapping of method, base, source, values"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[str(c) for c, _ in BAD])
def test_a_mistake_in_a_sweep_is_named(changes, message: str, tmp_path: Path) -> None:
    assert any(message in problem for problem in problems(sweep(tmp_path, **changes)))


def test_all_mistakes_are_one_error_and_nothing_is_written(tmp_path: Path) -> None:
    output, base = tmp_path / "runs", str(tiny_base(tmp_path))
    mapping = sweep(output, base=base, methods=["lroa", "head"], sedes=[1])
    mapping["settings"] = {"training.epoch": 3, "data.train": T}
    found = problems(mapping)
    assert len(found) == 3
    assert "sedes" in found[0]
    assert "lroa" in found[1]
    assert found[2].startswith("unknown setting settings.training.epoch (did you mean")
    assert found[2].endswith("(in tiny/one/head and 1 other)"), "named once for all runs"
    assert not output.exists()


def test_two_cells_of_one_directory_are_named(tmp_path: Path) -> None:
    lora = {"method": "lora", "lora.r": 4}
    (problem,) = problems(sweep(tmp_path, methods={"a/b": lora, "a_b": lora}, tasks=["one"]))
    assert problem == (
        "tiny/one/a/b seed 0 and tiny/one/a_b seed 0 would be written to one directory; rename or "
        "change one of them"
    )


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        (
            {
                "methods": {
                    "lora": {"grid": {"lora.r": [4]}},
                    "lora, lora.r=4": {"method": "lora", "lora.r": 8},
                }
            },
            "lora, lora.r=4",
        ),
        (
            {"methods": ["lora"], "grid": {"lora.target_modules": ["query", ["query"]]}},
            "lora, lora.target_modules=query",
        ),
    ],
)
def test_two_rows_of_one_name_are_named(tmp_path: Path, changes, row: str) -> None:
    *_, problem = problems(sweep(tmp_path, tasks=["one"], **changes))
    name = f"tiny/one/{row} seed 0"
    assert problem.startswith(f"{name} and {name} would be written to one directory;")


def test_bases_of_one_name_are_told_apart_by_the_names_in_the_sweep(tmp_path: Path) -> None:
    here, there = tiny_base(tmp_path / "here"), tiny_base(tmp_path / "there")
    bases = {"here": {"base": str(here)}, "there": {"base": str(there)}}
    plan = runnable(sweep(tmp_path, base=None, bases=bases))
    assert [base.name for base in plan.entries.bases] == ["here", "there"]


def test_a_method_that_a_base_cannot_take_is_named(tmp_path: Path) -> None:
    methods = {"lora": {"lora.target_modules": ["c_attn"]}, "last_layers": {"last_layers.count": 2}}
    tasks = {"one": {"data.task": "classification"}}
    lora, layers = problems(sweep(tmp_path, methods=methods, tasks=tasks))
    base = tmp_path / "models" / "tiny"
    assert lora.startswith(f"the method lora cannot be used on {base}: ")
    assert "c_attn" in lora
    assert layers.startswith(f"the method last_layers cannot be used on {base}: ")


def test_a_prefix_longer_than_the_base_is_called_as_in_the_sweep(tmp_path: Path) -> None:
    methods = {"P": {"method": "prefix_layer", "prefix_layer.prefix": 600}}
    tasks = {"one": {"data.task": "classification"}}
    (problem,) = problems(sweep(tmp_path, methods=methods, tasks=tasks))
    base = tmp_path / "models" / "tiny"
    assert problem.startswith(
        f"the method prefix_layer cannot be used on {base}: methods.P.prefix_layer.prefix is 600 "
        "and prefix_layer.infix is 0: they take 600 of the 512 positions"
    )


def test_a_base_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    (problem,) = problems(sweep(tmp_path, base=str(tmp_path / "nowhere")))
    assert "nowhere" in problem
    assert problem.endswith("(in nowhere/one/head and 3 others)")


def test_a_base_that_cannot_do_a_task_is_named(tmp_path: Path) -> None:
    base = tmp_path / "gpt2"
    GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9).save_pretrained(base)
    tasks = {"one": {"data.task": "multiple_choice"}}
    (problem,) = problems(sweep(tmp_path, base=str(base), tasks=tasks))
    assert "is a gpt2 model, for which transformers has no class of AutoModelForMultiple" in problem


def test_a_task_without_a_name_in_a_file_is_not_taken_for_the_task_to_run(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(mapping_text(sweep(tmp_path, tasks={"one": None, None: {}})))
    (problem,) = problems(load_sweep(file))
    assert problem == "tasks has None, which is no name; name each of them"


def test_a_sweep_is_found_by_path_by_name_and_by_its_directory(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    assert sweep_file(str(tmp_path)) is None
    file.write_text("output: o")
    assert sweep_file(str(tmp_path)) == file
    assert sweep_file(str(file)) == file
    assert sweep_file("reviews") == sweep_files()["reviews"]
    assert sweep_file("nothing") is None
