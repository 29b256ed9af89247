"""The `captioner` command: `captioner caption|train|score|serve`, each a script of its own.

What the scripts share of a command line's manners is here, too.

An installed package carries the scripts as `captioner.scripts`; in a checkout, and so in an
editable installation, they lie beside the package.
"""

from __future__ import annotations

import argparse
import ctypes
import difflib
import importlib.util
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from captioner import __version__
from captioner.errors import CaptionerError, ConfigError

COMMANDS = {
    "caption": ("generate", "caption images, or answer questions about them"),
    "train": ("train", "train a captioner on a data set"),
    "score": ("score", "score captions, or a checkpoint, against references"),
    "serve": ("serve", "a page for browsers, and an API for programs"),
}
_PACKAGE = Path(__file__).parent
MALLOPT = {
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_TOP_PAD_": (-2, 64 << 20),
    "MALLOC_MMAP_MAX_": (-4, 0),
}
"""glibc's settings by their variables, each with mallopt's number of it, and the value."""


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    # What follows the command is the script's own, --help included.
    command = parser().parse_args(words[:1]).command
    module = load_script(COMMANDS[command][0])
    module.PROG = f"captioner {command}"  # what usage and error messages begin with
    return module.main(words[1:])


def parser() -> argparse.ArgumentParser:
    """The parser of the first word."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    found = Parser(
        prog="captioner",
        usage="captioner [-h] [--version] COMMAND ...",
        description="Caption images, answer questions about them; train, score, serve captioners.",
        epilog="commands (each has its own --help):\n"
        + "\n".join(lines)
        + f"\n\nconfigurations for `captioner train --config NAME`: {_beside('configs')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=f"captioner {__version__}")
    found.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    return found


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


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace, prog: str) -> int:
    """`run(args)`, with a user's error on one line of stderr; returns the exit status."""
    keep_freed_memory()
    # What is wrong with an image is told in a line of its own.
    warnings.filterwarnings("ignore", module="PIL")
    # A file name in another encoding must not stop the run that prints it.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = run(args)
        sys.stdout.flush()  # a closed pipe is met here at the latest, not at exit
        return status
    except CaptionerError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone; what is left in the buffer must not be complained about at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def keep_freed_memory() -> None:
    """What is freed stays with the process, and with those that it starts, in huge pages.

    A forward pass takes and frees the same large blocks again and again, and glibc gives each back
    to the system, which hands it out anew, page by page and zeroed (mallopt(3), M_MMAP_THRESHOLD).
    Whoever has set one of the variables is left alone; without glibc, nothing happens. To be
    called before torch is imported.
    """
    if sys.platform != "linux" or {*MALLOPT, "GLIBC_TUNABLES", "LD_PRELOAD"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's
    for variable, (number, value) in MALLOPT.items():
        mallopt(number, value)
        os.environ[variable] = str(value)


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM ends the program in good order: what is open is closed; status 143."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # where no signal is met
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def config_path(name: str) -> str:
    """Return the file of a training configuration: a local one, or else the package's of that name.

    `finetune`, `finetune.yaml` and `configs/finetune.yaml` are one name.

    Raises:
        ConfigError: There is neither.
    """
    local = (name, f"{name}.yaml", f"{name}.yml")
    for path in local:
        if os.path.exists(path) and not os.path.isdir(path):
            return path
    root = _beside("configs")
    known = {x.relative_to(root).with_suffix("").as_posix(): x for x in root.rglob("*.yaml")}
    key = os.path.normpath(name).replace(os.sep, "/").removeprefix("configs/")
    key = key.removesuffix(".yaml").removesuffix(".yml")
    training = sorted(key for key in known if "/" not in key)
    if key in training:
        return str(known[key])
    if key in known:
        raise ConfigError(
            f"{name}: is a configuration of the launcher, for `accelerate launch --config_file"
            f" {known[key]}`"
        )
    if "/" in key:  # a path, and not a name
        return name
    nearest = difflib.get_close_matches(key, training, n=1, cutoff=0.0)[0]
    raise ConfigError(
        f"{name}: no such file, and no configuration of the package; the nearest is {nearest}, of"
        f" {', '.join(training)}"
    )


def load_script(name: str) -> ModuleType:
    """The module of a script, by the name of its file without `.py`."""
    path = _beside(f"{name}.py", installed="scripts")
    spec = importlib.util.spec_from_file_location(f"captioner.scripts.{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _beside(name: str, *, installed: str = "") -> Path:
    """A file of the repository's top: within an installed package, beside it in a checkout."""
    inside = _PACKAGE / installed / name
    return inside if inside.exists() else _PACKAGE.parent / name


if __name__ == "__main__":
    sys.exit(main())
