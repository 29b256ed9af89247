"""Argument parsers that suggest the nearest flag, and flags and types that commands share."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.cli.process import notify, show_details

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


class Parser(argparse.ArgumentParser):
    """A parser that names the nearest flag when it meets an unknown one.

    With `settings`, positional arguments may be settings of a configuration (key.path=value).
    """

    def __init__(self, *, settings: bool = False, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.settings = settings

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse all arguments, with flags allowed between positional arguments.

        Exits with status 2 if an argument is unknown.
        """
        args, unknown = self.parse_known_intermixed_args(argv)
        self._reject_unknown(unknown)
        return args

    def _reject_unknown(self, unknown: Sequence[str]) -> None:
        if unknown:
            hints = dict.fromkeys(self._hint(word) for word in unknown if word.startswith("-"))
            self.error("; ".join([f"unrecognized arguments: {' '.join(unknown)}", *hints]))

    def _hint(self, word: str) -> str:
        name = word.partition("=")[0].replace("_", "-")
        if self.settings and "." in name:
            return f"settings have no dashes: {word.lstrip('-').partition('=')[0]}=VALUE"
        actions = self._option_string_actions.items()
        flags = [flag for flag, action in actions if not isinstance(action, _RenamedFlag)]
        flags = [flag for flag in flags if flag.startswith("--")]
        nearest = difflib.get_close_matches(name, flags, n=1, cutoff=0.0)[0]
        hint = f"the nearest to {word.partition('=')[0]} is {nearest}"
        return f"{hint}; settings are given as key.path=value" if self.settings else hint


class _RenamedFlag(argparse.Action):
    """Store the value of a flag that was given under its old name, and print a warning."""

    def __init__(self, *args: Any, new: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.new = new

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the value under the name of the new flag."""
        notify(f"{self.option_strings[0]} is deprecated; use {self.new}")
        setattr(namespace, self.dest, values)


class _ShowDetails(argparse.Action):
    """Print details to stderr from now on."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Change the level of the messages; there is no value to store."""
        show_details()


def add_renamed_flag(
    parser: argparse._ActionsContainer,
    old: str,
    new: str,
    *,
    type: Callable[[str], Any] = str,
    choices: Iterable[Any] | None = None,
) -> None:
    """Keep the old name of a flag working, with a warning; `--help` does not show it.

    The new flag, which takes one value, is added separately.
    """
    name = new.lstrip("-").replace("-", "_")
    parser.add_argument(
        old,
        action=_RenamedFlag,
        new=new,
        dest=name,
        type=type,
        choices=choices,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def add_inference(
    parser: argparse._ActionsContainer, *, dtype: str | None = None, optional: bool = False
) -> None:
    """Add the flags of the backend, the device, the data type and test-time augmentation.

    With `optional`, the value of a flag that is not given is None in place of the default.
    """
    # Imported here so that `captioner --help` does not import YAML.
    from captioner.config.decoding_options import DTYPES, TTA_VIEWS

    text = (
        "Library that runs the model: onnx (ONNX Runtime, on a CPU, for checkpoints with graphs) or"
        " torch. Default: auto, which is onnx where it can be used."
    )
    names = ("auto", "onnx", "torch")
    default = None if optional else "auto"
    parser.add_argument("--backend", default=default, choices=names, help=text)
    text = (
        "Device of the model: cpu, cuda, cuda:1, mps and so on. Default: auto, which is a GPU if"
        " there is one and the work is worth its start-up, otherwise cpu."
    )
    parser.add_argument("--device", default=default, help=text)
    text = "Print which backend and device are used, and why."
    hidden = argparse.SUPPRESS
    parser.add_argument(
        "-v", "--verbose", action=_ShowDetails, nargs=0, dest=hidden, default=hidden, help=text
    )
    usual = dtype or "float32, or the type of the weights of a transformers model on a GPU"
    text = f"Type of weights and arithmetic; auto is the fastest on the device. Default: {usual}."
    parser.add_argument("--dtype", default=None if optional else dtype, choices=DTYPES, help=text)
    text = (
        "Test-time augmentation: encode this many views of each image and average their features. 2"
        " adds the mirrored image, 4 also smaller copies of both. More views are slower; they do"
        " not improve the bundled checkpoint. Default: 1."
    )
    views = None if optional else 1
    parser.add_argument("--tta", type=int, default=views, choices=TTA_VIEWS, help=text)
    add_renamed_flag(parser, "--looks", "--tta", type=int, choices=TTA_VIEWS)


def select_options(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Return the dataclass with those of the values that are its fields."""
    return kind(**{option.name: values[option.name] for option in fields(kind)})


def positive(text: str) -> int:
    """Parse a whole number of 1 or more, as the `type` of a flag."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


positive.__name__ = "positive whole number"  # argparse shows it in messages.


def port(text: str) -> int:
    """Parse a TCP port, as the `type` of a flag."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is not a port; expected 0 to 65535")
    return value


def share(text: str) -> float:
    """Parse a number from 0 to 1, as the `type` of a flag."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} does not lie between 0 and 1")
    return value


share.__name__ = "number from 0 to 1"
