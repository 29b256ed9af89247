"""Conversion between plain data and frozen dataclasses; errors name the key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import yaml

from captioner.errors import ConfigError
from captioner.text import one_line

# The loader in C, which PyYAML has if libyaml was found, is ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_Loader):
    """A YAML loader that rejects duplicate keys in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; raise ConstructorError for a duplicate key."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                problem = f"the key {key!r} is duplicated"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text; raise yaml.YAMLError if it is not valid."""
    return yaml.load(text, _UniqueKeys)


def check_minimum(section: str, settings: Any, minimum: float, *names: str) -> None:
    """Raise ConfigError for the first of the settings that is less than `minimum`."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < minimum:
            raise ConfigError(f"{section}.{name}={value}: expected {minimum} or more")


def check_interval(section: str, settings: Any, interval: str, *names: str) -> None:
    """Raise ConfigError for the first of the settings outside an interval such as "(0, 1]"."""
    low, high = map(float, interval[1:-1].split(","))
    for name in names:
        value = getattr(settings, name)
        above = value > low or (interval[0] == "[" and value == low)
        below = value < high or (interval[-1] == "]" and value == high)
        if not (above and below):
            raise ConfigError(f"{section}.{name}={value}: expected a number in {interval}")


def to_dict(value: Any) -> Any:
    """Return a configuration as plain dicts, lists and scalars."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_dict(item) for item in value]
    return value


def apply_override(data: dict[str, Any], word: str) -> None:
    """Set the value of a `key.path=value` word in plain data; a number is an index of a list."""
    path, equals, text = word.partition("=")
    if not equals or not path:
        raise ConfigError(f"{word!r} is not a setting; expected key.path=value")
    try:
        value = load_yaml(text) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{word!r}: the value is not valid YAML: {one_line(error)}") from None
    *parents, last = path.split(".")
    here: Any = data
    for i, key in enumerate(parents):
        index = _index(here, key, word)
        here = here.setdefault(index, {}) if isinstance(here, dict) else here[index]
        if not isinstance(here, (dict, list)):
            raise ConfigError(f"{word!r}: {'.'.join(parents[: i + 1])} is a value and has no keys")
    here[_index(here, last, word)] = value


def _index(here: dict[str, Any] | list[Any], key: str, word: str) -> Any:
    if isinstance(here, dict):
        return key
    if key.isdigit() and int(key) < len(here):
        return int(key)
    raise ConfigError(f"{word!r}: {key!r} is not an index of a list of {len(here)}")


def parse_value(kind: Any, value: Any, where: str = "") -> Any:
    """Convert YAML data to the type of an annotation such as a dataclass or `tuple[int, ...]`.

    Messages name the dotted key `where`.

    Raises:
        ConfigError: The value does not have that type, or a key is unknown.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return parse_value(next(a for a in args if a is not type(None)), value, where)
    if origin is Literal:
        # YAML reads `no` without quotes as false.
        value = "no" if value is False and "no" in args else value
        if value not in args:
            raise ConfigError(f"{where}={value!r}: expected one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _build_tuple(args, value, where)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    return _build_scalar(origin or kind, value, where)


def _build_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}={value!r}: expected a list, found a {type_name(value)}")
    if len(args) != 2 or args[1] is not Ellipsis:
        if len(value) != len(args):
            raise ConfigError(f"{where}: expected {len(args)} values, found {len(value)}")
        pairs = zip(args, value, strict=True)
        return tuple(parse_value(a, v, f"{where}.{i}") for i, (a, v) in enumerate(pairs))
    return tuple(parse_value(args[0], v, f"{where}.{i}") for i, v in enumerate(value))


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        name = where or "the configuration"
        raise ConfigError(f"{name}: expected keys, found a {type_name(value)}")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            near = find_nearest(str(key), hints)
            raise ConfigError(f"{prefix}{key} is not a setting; the nearest is {prefix}{near}")
    return kind(**{k: parse_value(hints[k], v, f"{prefix}{k}") for k, v in value.items()})


def find_nearest(name: str, valid: Iterable[str]) -> str:
    """Return the valid name that is most similar to an unknown one."""
    # Cut, because the comparison of a very long name would be slow.
    return difflib.get_close_matches(name[:100], list(valid), n=1, cutoff=0.0)[0]


def _build_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and not isinstance(value, bool):
        # YAML 1.1 reads 5e-4, which has no dot, as text.
        try:
            number = float(value)
        except (TypeError, ValueError):
            pass
        else:
            if math.isfinite(number):
                return number
            raise ConfigError(f"{where}={value!r}: expected a finite number")
    elif kind is dict and isinstance(value, Mapping):
        return dict(value)
    elif kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}={value!r}: expected a {kind.__name__}, found a {type_name(value)}")


def type_name(value: Any) -> str:
    """Return the name of the type of a value in messages."""
    return "nothing" if value is None else type(value).__name__
