import tracemalloc

import pytest
import yaml

from mammoscope.untrusted_yaml import MOST_VALUES, read_yaml


def bomb(levels: int, inside: str = "{last}") -> str:
    """A list of nine lists of nine lists ..., in some 40 bytes a level."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join([*lines, inside.format(last=f"*a{levels - 1}")]) + "\n"


def test_plain_values_and_aliases_are_read() -> None:
    text = "names: &n [mass, 1]\nsame: *n\nmore: {<<: &m {a: 1}, b: 2}\n"
    assert read_yaml(text) == {"names": ["mass", 1], "same": ["mass", 1], "more": {"a": 1, "b": 2}}
    assert read_yaml("") is None
    assert len(read_yaml(f"[{', '.join('0' * 90_000)}]")) == 90_000


@pytest.mark.parametrize("inside", ["names: {last}", "names: {{<<: {last}}}"])
def test_aliases_of_aliases_are_refused_before_they_fill_the_memory(inside: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(yaml.YAMLError, match=str(MOST_VALUES)):
            read_yaml(bomb(9, inside))
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_value_inside_itself_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="inside itself"):
        read_yaml("a: &a [*a]")
