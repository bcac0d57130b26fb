"""Names that are the same but for a prefix: as the definition has it, and in linear time."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from lorakit.injection.selection.naming import same_but_for_prefix

NAMES = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), max_size=6)


class Counted(dict[str, None]):
    """Names that count how often one is looked at or looked up."""

    count = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.count += 1
            yield name

    def keys(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self)


@given(NAMES, NAMES)
def test_pair_is_one_of_the_definition(names: list[str], others: list[str]) -> None:
    expected = {
        (here, there)
        for here in names
        for there in others
        if here.endswith(f".{there}") or there.endswith(f".{here}") or here == there
    }
    found = same_but_for_prefix(names, others)
    assert found in expected if expected else found is None


def test_each_of_ten_thousand_names_is_looked_at_once() -> None:
    names = Counted.fromkeys(f"model.layers.{n}.query" for n in range(10_000))
    others = Counted.fromkeys(f"layers.{n}.value" for n in range(10_000))
    assert same_but_for_prefix(names, others) is None
    assert names.count == others.count == 10_000
    others = Counted.fromkeys([*others, "layers.9999.query"])
    assert same_but_for_prefix(names, others) == ("model.layers.9999.query", "layers.9999.query")
