"""YAML that came from elsewhere, read without letting a few lines of it fill the memory.

In comes a text; out come its plain values. An alias stands for a whole value again: aliases of aliases expand 350 bytes
to gigabytes as soon as somebody walks through the values, joins them to a text or merges them.
"""

from typing import Any

import yaml

MOST_VALUES = 100_000
"""Keys and values, each counted as often as aliases repeat it; the largest class lists have some thousands."""


def read_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read the values of a text of one YAML document.

    Parameters
    ----------
    loader
        Of PyYAML's safe ones, with what it constructs besides.

    Raises
    ------
    yaml.YAMLError
        If it is not valid, holds a value inside itself, or has more than `MOST_VALUES` with its aliases written out.
    RecursionError
        If it is nested too deep.
    """
    loading = loader(text)
    try:
        node = loading.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases repeat more than {MOST_VALUES} values")
        return loading.construct_document(node)
    finally:
        loading.dispose()


def _expanded(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """How many nodes there are below one and with it, those behind an alias counted each time."""
    if id(node) in counts:
        count = counts[id(node)]
        if count is None:
            raise yaml.YAMLError("it holds a value inside itself")
        return count
    counts[id(node)] = None
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    inside = node.value if isinstance(node, yaml.SequenceNode) else (part for pair in pairs for part in pair)
    counts[id(node)] = count = 1 + sum(_expanded(part, counts) for part in inside)
    return count
