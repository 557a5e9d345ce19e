"""Conditions on the images of a data set, as a user writes them: ``view == 'MLO' and density >= 3``.

The words are Python's, but nothing is run as Python: the text is parsed, and only comparisons, ``and``, ``or``,
``not``, ``in``, columns, texts, numbers and truth values are understood. Whatever is compared with a value that an
image does not have is false, as in SQL.
"""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mammoscope.datasets.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow

_COMPARISONS = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_EXAMPLE = "for example \"view == 'MLO' and density >= 3\""
_MOST_SIGNS = 10_000


def rows_where(table: "pyarrow.Table", condition: str) -> "pyarrow.ChunkedArray":
    """For each row of an index, whether it meets a condition.

    Parameters
    ----------
    condition
        ``column == value`` (also ``!=``, ``<``, ``<=``, ``>``, ``>=``), ``value in (…)``, ``'Mass' in labels`` for
        columns of lists, ``column is None``, joined by ``and``, ``or``, ``not`` and parentheses. A column whose name
        is no word of Python is written ``column('left breast')``.

    Returns
    -------
    pyarrow.ChunkedArray
        Truth values, never null.

    Raises
    ------
    DatasetError
        If the condition is not understood, names an unknown column, or compares texts with numbers.
    """
    import pyarrow
    import pyarrow.compute

    if len(condition) > _MOST_SIGNS:
        raise DatasetError(f"the condition has {len(condition)} signs, more than the {_MOST_SIGNS} that are read.")
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise DatasetError(f"the condition {condition!r} cannot be understood: write {_EXAMPLE}.") from None
    try:
        found = _Reader(condition, table).truth(tree.body)
        return pyarrow.compute.fill_null(found, False)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, RecursionError):
        raise DatasetError(f"the condition {condition!r} compares things of different kinds.") from None


class _Reader:
    def __init__(self, condition: str, table: "pyarrow.Table") -> None:
        import pyarrow
        import pyarrow.compute

        self.condition, self.table, self.pc, self.pa = condition, table, pyarrow.compute, pyarrow

    def truth(self, node: ast.expr) -> Any:
        """A truth value per row."""
        match node:
            case ast.BoolOp(op, values):
                join = self.pc.and_kleene if isinstance(op, ast.And) else self.pc.or_kleene
                found = self.truth(values[0])
                for value in values[1:]:
                    found = join(found, self.truth(value))
                return found
            case ast.UnaryOp(ast.Not(), operand):
                return self.pc.invert(self.truth(operand))
            case ast.Compare(left, operators, comparators):
                return self._compared([left, *comparators], operators)
            case ast.Name() | ast.Call():
                column = self._column(node)
                if self.pa.types.is_boolean(column.type):
                    return column
        raise self._not_understood(node)

    def _compared(self, operands: list[ast.expr], operators: list[ast.cmpop]) -> Any:
        found = None
        for left, operator, right in zip(operands, operators, operands[1:], strict=False):
            one = self._one_comparison(left, operator, right)
            found = one if found is None else self.pc.and_kleene(found, one)
        return found

    def _one_comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Any:
        match operator, right:
            case (ast.Is(), ast.Constant(None)):
                return self.pc.is_null(self._column(left))
            case (ast.IsNot(), ast.Constant(None)):
                return self.pc.is_valid(self._column(left))
            case (ast.In(), _):
                return self._within(left, right)
            case (ast.NotIn(), _):
                return self.pc.invert(self._within(left, right))
        compare: Callable[[Any, Any], Any] | None = getattr(self.pc, _COMPARISONS.get(type(operator), ""), None)
        if compare is None:
            raise self._not_understood(left)
        first, second = self._value(left), self._value(right)
        if not any(isinstance(value, self.pa.ChunkedArray) for value in (first, second)):
            raise self._not_understood(left)
        self._check_kinds(left, first, right, second)
        return compare(first, second)

    def _within(self, left: ast.expr, right: ast.expr) -> Any:
        if isinstance(right, ast.Tuple | ast.List | ast.Set):
            values = [self._constant(element) for element in right.elts]
            column = self._column(left)
            for element, value in zip(right.elts, values, strict=True):
                self._check_kinds(left, column, element, value)
            among = self.pc.is_in(column, value_set=self.pa.array(values, column.type))
            return self.pc.if_else(self.pc.is_valid(column), among, None)
        column = self._column(right)
        if not self.pa.types.is_list(column.type):
            raise DatasetError(
                f"the condition {self.condition!r}: {self._named(right)} is no list; write {self._named(right)} == ..."
            )
        return self._list_holds(column, self._constant(left))

    def _list_holds(self, column: Any, value: Any) -> Any:
        lists = column.combine_chunks()
        values = self.pc.list_flatten(lists)
        if self.pa.types.is_string(values.type) != isinstance(value, str):
            raise DatasetError(f"the condition {self.condition!r} compares texts with numbers.")
        hits = self.pc.filter(self.pc.list_parent_indices(lists), self.pc.equal(values, value))
        return self.pc.is_in(self.pa.array(range(len(lists)), hits.type), value_set=self.pc.unique(hits))

    def _value(self, node: ast.expr) -> Any:
        return self._column(node) if isinstance(node, ast.Name | ast.Call) else self._constant(node)

    def _constant(self, node: ast.expr) -> str | int | float | bool:
        match node:
            case ast.Constant(value) if isinstance(value, str | int | float):
                return value
            case ast.UnaryOp(ast.USub(), ast.Constant(value)) if isinstance(value, int | float):
                return -value
        raise self._not_understood(node)

    def _column(self, node: ast.expr) -> Any:
        name = self._named(node)
        if name not in self.table.column_names:
            raise DatasetError(
                f"the condition {self.condition!r}: there is no column {name!r}; there are "
                f"{', '.join(sorted(self.table.column_names))}. Texts stand in quotes."
            )
        return self.table.column(name)

    def _named(self, node: ast.expr) -> str:
        match node:
            case ast.Name(name):
                return name
            case ast.Call(ast.Name("column"), [ast.Constant(str(name))], []):
                return name
        raise self._not_understood(node)

    def _check_kinds(self, left: ast.expr, first: Any, right: ast.expr, second: Any) -> None:
        kinds = [self._kind(value) for value in (first, second)]
        if kinds[0] != kinds[1]:
            texts = [ast.unparse(node) for node in (left, right)]
            raise DatasetError(
                f"the condition {self.condition!r}: {texts[0]} is a {kinds[0]} and {texts[1]} a {kinds[1]}; texts "
                "stand in quotes, numbers do not."
            )

    def _kind(self, value: Any) -> str:
        if not isinstance(value, self.pa.ChunkedArray):
            return "text" if isinstance(value, str) else "truth value" if isinstance(value, bool) else "number"
        kind = value.type
        if self.pa.types.is_list(kind):
            return "list"
        if self.pa.types.is_string(kind) or self.pa.types.is_large_string(kind):
            return "text"
        return "truth value" if self.pa.types.is_boolean(kind) else "number"

    def _not_understood(self, node: ast.expr) -> DatasetError:
        return DatasetError(
            f"the condition {self.condition!r}: {ast.unparse(node)!r} is not understood; write {_EXAMPLE}."
        )
