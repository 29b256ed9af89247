"""Checks of the arguments that callers of the Python API give."""

from __future__ import annotations

import difflib
import inspect
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral
from typing import Any, TypeVar

from captioner.errors import CaptionerError, ConfigError

Function = TypeVar("Function", bound=Callable[..., Any])


def checked_options(
    more: Sequence[str] = (), *, renamed: Mapping[str, str] | None = None
) -> Callable[[Function], Function]:
    """Decorate a function to raise ConfigError for an unknown keyword, with the nearest one.

    Args:
        more: Keywords beside those of the signature, of a function that takes `**options`.
        renamed: Deprecated keywords and the ones that replace them.
    """

    def decorate(function: Function) -> Function:
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters if p.kind in kinds and p.name != "self"] + list(more)

        @wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            for name in options.keys() & (renamed or {}).keys():
                message = f"{function.__name__}({name}=...) is now {renamed[name]}=..."
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                options[renamed[name]] = options.pop(name)
            for name in options:
                if name not in names:
                    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
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
    if value < 1:
        raise CaptionerError(f"{name}={value}: must be 1 or more")


def check_text(text: Any, what: str, error: type[CaptionerError]) -> None:
    """Raise an error unless `text` is text without control characters and undecodable bytes."""
    if not isinstance(text, str):
        raise error(f"{what} must be text; found {type(text).__name__}")
    for c in text:
        kind = unicodedata.category(c)
        if kind == "Cs":
            raise error(f"{what} must be text; {short(text)} has bytes that are not UTF-8")
        if kind == "Cc" and not c.isspace():
            raise error(f"{what} must be text; {short(text)} has the control character {c!r}")


def short(text: str) -> str:
    """Return a text as messages quote it."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
