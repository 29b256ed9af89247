"""Checks of arguments of the Python API."""

from __future__ import annotations

import inspect
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from numbers import Integral
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from captioner.config.parsing import find_nearest
from captioner.errors import CaptionerError, ConfigError

P = ParamSpec("P")
T = TypeVar("T")


def check_keywords(
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function to raise ConfigError for an unknown keyword, with the nearest one.

    `renamed` maps deprecated keywords to the ones that replace them.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        names = [name for name in inspect.signature(function).parameters if name != "self"]

        @wraps(function)
        def checked(*args: P.args, **options: P.kwargs) -> T:
            for name in options.keys() & renamed.keys():
                if renamed[name] in options:
                    raise ConfigError(
                        f"{name} is the old name of {renamed[name]}; give one of them"
                    )
                message = f"{function.__name__}({name}=...) is now {renamed[name]}=..."
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                options[renamed[name]] = options.pop(name)
            for name in options:
                if name not in names:
                    nearest = find_nearest(name, names)
                    raise ConfigError(
                        f"{function.__name__}() has no option {name!r}; the nearest is {nearest!r}"
                    )
            return function(*args, **options)

        return checked

    return decorate


def check_count(name: str, value: Any) -> None:
    """Check an option that counts something.

    Raises:
        TypeError: It is not a whole number.
        CaptionerError: It is less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r}: must be a whole number")
    if int(value) < 1:
        raise CaptionerError(f"{name}={value}: must be 1 or more")


def check_text(text: Any, name: str, error: type[CaptionerError]) -> None:
    """Raise `error` unless `text` is a string without control characters or undecodable bytes."""
    if not isinstance(text, str):
        raise error(f"{name} must be text; found {type(text).__name__}")
    for c in text:
        kind = unicodedata.category(c)
        if kind == "Cs":
            raise error(f"{name} must be text; {quote(text)} has bytes that are not UTF-8")
        if kind == "Cc" and not c.isspace():
            raise error(f"{name} must be text; {quote(text)} has the control character {c!r}")


def quote(text: str) -> str:
    """Return a text as messages quote it, cut to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
