"""Parse table cells: lists written as text, and whole numbers written as 3.0."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

# `['a', "b"]`, `["a"]`, `('a', 'b')`, `{'a', 'b'}`, `[1 2]`, `array(['a' 'b'], dtype=object)`.
_LIST = re.compile(r"""\s*(?:[\w.]+\(\s*)?(?:\[|[({](?=\s*['"]))\s*""")
_LIST_BEGINS = re.compile(
    r"""[\]'"\[{\u2018\u201c]|\.\.\.|(?:None|nan|null|True|False)\b\s*(?:[,\])]|nan|None|null)"""
    r"""|[-+\d][-+\d\s.,eE]*[\])]\s*\Z|[bur]['"]|np\.|numpy\."""
)
_LIST_ENDS = re.compile(
    r"""['"\u2019\u201d]\s*,\s*['"\u2018\u201c].*['"\u2019\u201d]\s*\]\s*\Z""", re.DOTALL
)
_ARRAY = re.compile(r"[\w.]+\((?P<list>.*?)(?:,\s*dtype=[^()]*)?\)", re.DOTALL)
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_MISSING = re.compile(rf"({_STRING.pattern})|\b(?:nan|null|None)\b", re.DOTALL)
_STR = re.compile(rf"(?:np|numpy)\.str_\(({_STRING.pattern})\)", re.DOTALL)
_TEXT_KEYS = ("answer", "raw", "caption", "text")
_ADJACENT_STRINGS = re.compile(rf"(?:{_STRING.pattern})\s*(?:{_STRING.pattern})", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WHOLE = re.compile(r"([-+]?\d+)\.0*")


def is_list_text(text: str) -> bool:
    """Return whether a cell holds a list, complete or truncated, and not a text in brackets."""
    begin = _LIST.match(text)
    if begin is not None and _LIST_BEGINS.match(text, begin.end()):
        return True
    return _LIST_ENDS.search(text) is not None


def parse_list(text: str) -> list[Any] | None:
    """Parse a list written as JSON, by Python's `str(list)` or by NumPy's `str(array)`.

    Items that are objects, such as `{"answer": "yes"}` or `{"raw": "a dog"}`, become their text.

    Returns:
        The items without missing values (None, nan), or None if the text is truncated or holds
        items other than texts and numbers.
    """
    text = text.strip()
    array = _ARRAY.fullmatch(text)
    text = array["list"].strip() if array else text
    python = _MISSING.sub(lambda match: match[1] or "None", _STR.sub(r"\1", text))
    if python.startswith("{"):
        python = f"[{python[1:-1]}]" if python.endswith("}") else python
    for parse, form in ((json.loads, text), (_parse_array, python), (_parse_literal, python)):
        try:
            value = parse(form)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(value, list | tuple):
            items = [extract_text(item) for item in value if item is not None]
            good = all(isinstance(x, str | int | float) and not isinstance(x, bool) for x in items)
            return items if good else None
    return None


def extract_text(item: Any) -> Any:
    """Return the text of an object; other items are returned unchanged."""
    if isinstance(item, dict):
        return next((item[key] for key in _TEXT_KEYS if key in item), item)
    return item


def _parse_literal(text: str) -> Any:
    """Parse a Python literal; raise ValueError for adjacent strings, which Python would join."""
    if _ADJACENT_STRINGS.search(text):
        raise ValueError("a comma is missing")
    return ast.literal_eval(text)


def _parse_array(text: str) -> list[Any]:
    """Parse an array as NumPy prints it, without commas; raise ValueError for other text."""
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError("not an array")
    inner = text[1:-1]
    rest = [item for item in _STRING.sub(" ", inner).split() if item != "None"]
    strings = _STRING.findall(inner)
    if strings and not rest:
        return [ast.literal_eval(string) for string in strings]
    if not strings and rest and all(_NUMBER.fullmatch(item) for item in rest):
        return [float(item) if not item.lstrip("+-").isdigit() else int(item) for item in rest]
    raise ValueError("not an array")


def number_text(value: float) -> str:
    """Return a number as text; whole numbers have no decimal point: "3" for 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_whole_column(cells: Iterable[str]) -> bool:
    """Return whether a column holds whole numbers only, at least one of them written as 3.0.

    Pandas writes whole numbers like this if the column has an empty cell.
    """
    has_fraction = False
    for cell in filter(None, map(str.strip, cells)):
        if _WHOLE.fullmatch(cell):
            has_fraction = True
        elif not cell.lstrip("+-").isdecimal():
            return False
    return has_fraction


def whole_text(cell: str) -> str:
    """Return "3" for "3.0"; other texts are returned unchanged."""
    match = _WHOLE.fullmatch(cell.strip())
    return match[1] if match else cell
