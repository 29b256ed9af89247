"""Count the rows of a data set: used by split, unused, and dropped with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from captioner.text import one_line

# Kinds of problems that the readers report. A kind is a string; other modules add their own.
MISSING_IMAGE = "missing image"
MISSING_AUDIO = "missing recording"
NO_CAPTION = "image without captions"
NO_SPLIT = "captioned image in no split list"
UNREAD_FILE = "file left unread (give its path to read it)"
UNREAD_COLUMN = "column left unread"
BAD_LIST = "list that cannot be parsed"
UNCLOSED_QUOTE = "unclosed quotation mark"
BAD_ROW = "row that cannot be parsed"
BAD_WEIGHT = "weight that is neither 0 nor from 1e-6 to 1e6"
ZERO_WEIGHT = "row of weight 0 (not trained on)"
BAD_TEXT = "text that is not UTF-8"
EMPTY_CAPTION = "empty caption"
EMPTY_QUESTION = "empty question"
EMPTY_ANSWER = "empty answer"
NO_QUESTION = "image whose captions or tags give no question"
NO_STATEMENT = "image whose questions give no caption"
NO_ANSWER = "question without answers"
DUPLICATE = "duplicate"
UNREADABLE_IMAGE = "image that cannot be decoded"

FIRST_NAMES = 5


@dataclass
class Problem:
    """The occurrences of one kind of problem."""

    count: int = 0
    rows: int = 0
    """Rows of the files that were dropped because of it."""
    names: list[str] = field(default_factory=list)
    """Places of the first occurrences, at most `FIRST_NAMES`."""

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.names) else ""
        return f"{self.count} ({', '.join(self.names)}{more})"


class Report:
    """Account of the rows of a data set, and the problems by kind; true if there are any.

    `rows` = `used` + `unused` + `dropped`. A row is an entry of a file: a caption, a question, or
    an image with its captions. Reports can be pickled and merged.
    """

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        """Rows by split, of the selected splits."""
        self.unused: Counter[str] = Counter()
        """Rows by split, of the other splits."""
        self.parts: dict[str, Report] = {}
        """Reports on single data sets, by their paths; a repeated path is followed by its key."""
        self.problems: dict[str, Problem] = {}
        """The problems by kind, in the order of their first occurrence."""
        self.missing_splits: list[str] = []
        """Optional splits that the data set does not have."""
        self._keys: set[tuple[str, object]] = set()

    @property
    def dropped(self) -> int:
        """Number of rows that were dropped because of problems."""
        return sum(problem.rows for problem in self.problems.values())

    @property
    def rows(self) -> int:
        """Number of rows in the files."""
        return self.used.total() + self.unused.total() + self.dropped

    def add(self, kind: str, name: object, *, rows: int = 0) -> None:
        """Count one problem in a file, `file:line` or image, and the rows dropped because of it."""
        problem = self.problems.setdefault(kind, Problem())
        problem.count += 1
        problem.rows += rows
        if len(problem.names) < FIRST_NAMES:
            problem.names.append(_clean_name(name))

    def add_once(self, kind: str, name: object, *, key: object, rows: int = 0) -> None:
        """Count one problem like `add`, but each key only once; the rows are always counted.

        This is for problems that occur again in each epoch.
        """
        if (kind, key) not in self._keys:
            self._keys.add((kind, key))
            self.add(kind, name)
        self.problems[kind].rows += rows

    def merge(self, other: Report) -> None:
        """Add the counts of another worker's or another data set's report to this one."""
        self.used += other.used
        self.unused += other.unused
        for kind, theirs in list(other.problems.items()):
            mine = self.problems.setdefault(kind, Problem())
            room = FIRST_NAMES - len(mine.names)
            mine.names.extend(theirs.names[:room])
            mine.count += theirs.count
            mine.rows += theirs.rows

    def summary(self) -> str:
        """Return one line per kind, `kind: count (first names, ...)`; empty without problems."""
        return "\n".join(f"{kind}: {problem}" for kind, problem in self.problems.items())

    def __bool__(self) -> bool:
        return bool(self.problems)

    def __iter__(self) -> Iterator[tuple[str, Problem]]:
        return iter(self.problems.items())

    def __repr__(self) -> str:
        return f"Report({self.summary()!r})"


def _clean_name(name: object) -> str:
    """Return a name for the log: one line of valid Unicode with at most 200 characters."""
    text = one_line(name).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= 200 else text[:197] + "..."
