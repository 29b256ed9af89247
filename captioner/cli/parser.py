"""Argument parsers that suggest the nearest flag, and types of arguments."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence


class Parser(argparse.ArgumentParser):
    """A parser that names the nearest flag when it meets an unknown one.

    With `settings`, positional arguments may be settings of a configuration (key.path=value).
    """

    def __init__(self, *, settings: bool = False, **options: object) -> None:
        super().__init__(**options)
        self.settings = settings

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all words; exit with status 2 if one is unknown."""
        return self._all_known(*self.parse_known_args(args, namespace))

    def parse_intermixed_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all words, flags among positional arguments; exit with status 2 as `parse_args`."""
        return self._all_known(*self.parse_known_intermixed_args(args, namespace))

    def _all_known(self, args: argparse.Namespace, rest: Sequence[str]) -> argparse.Namespace:
        if rest:
            hints = dict.fromkeys(self._hint(word) for word in rest if word.startswith("-"))
            self.error("; ".join([f"unrecognized arguments: {' '.join(rest)}", *hints]))
        return args

    def _hint(self, word: str) -> str:
        name = word.partition("=")[0].replace("_", "-")
        if self.settings and "." in name:
            return f"settings have no dashes: {word.lstrip('-').partition('=')[0]}=VALUE"
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        nearest = difflib.get_close_matches(name, flags, n=1, cutoff=0.0)[0]
        hint = f"the nearest to {word.partition('=')[0]} is {nearest}"
        return f"{hint}; settings are given as key.path=value" if self.settings else hint


def positive(text: str) -> int:
    """A whole number of 1 or more, for an argparse `type`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


positive.__name__ = "positive whole number"  # argparse names the type in its messages


def port(text: str) -> int:
    """A TCP port, for an argparse `type`."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is no port; expected 0 to 65535")
    return value


def share(text: str) -> float:
    """A number from 0 to 1, for an argparse `type`."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} does not lie between 0 and 1")
    return value


share.__name__ = "number from 0 to 1"
