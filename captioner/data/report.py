"""An account of a data set's rows: used by split, not used, and dropped with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from captioner.text import one_line

# The kinds that the readers report. Others may be added freely: a kind is only a string.
MISSING_IMAGE = "missing image"
NO_CAPTION = "image without captions"
NO_SPLIT = "captioned image in no split list"
UNREAD_FILE = "file left unread (give its path to read it)"
UNREAD_COLUMN = "column left unread"
BAD_LIST = "list that cannot be parsed"
UNCLOSED_QUOTE = "unclosed quotation mark"
BAD_ROW = "row that cannot be parsed"
BAD_TEXT = "text that is not UTF-8"
EMPTY_CAPTION = "empty caption"
EMPTY_QUESTION = "empty question"
EMPTY_ANSWER = "empty answer"
NO_QUESTION = "captioned image whose captions give no question"
NO_ANSWER = "question without answers"
DUPLICATE = "duplicate"
UNREADABLE_IMAGE = "image that cannot be decoded"

FIRST_NAMES = 5


@dataclass
class Problem:
    """One kind of problem: how many, and the first names (at most `FIRST_NAMES`)."""

    count: int = 0
    rows: int = 0
    """Rows of the files that were dropped because of it."""
    names: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.names) else ""
        return f"{self.count} ({', '.join(self.names)}{more})"


class Report:
    """Problems met while reading, by kind. True when there are any; picklable and mergeable.

    It accounts for all rows: `rows` is `used` + `unused` + those that the problems dropped. A row
    is an entry of a file: a caption, a question, or an image with its captions.
    """

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        """Rows by split, of the splits that were asked for."""
        self.unused: Counter[str] = Counter()
        """Rows by split, of the other splits."""
        self.parts: dict[str, Report] = {}
        """Reports on single data sets, by their paths."""
        self._problems: dict[str, Problem] = {}
        self._met: set[tuple[str, object]] = set()

    @property
    def problems(self) -> Mapping[str, Problem]:
        """The problems by kind, in the order in which the kinds were first met."""
        return self._problems

    @property
    def dropped(self) -> int:
        """Number of rows that problems dropped."""
        return sum(problem.rows for problem in self._problems.values())

    @property
    def rows(self) -> int:
        """Number of rows in the files."""
        return self.used.total() + self.unused.total() + self.dropped

    def add(self, kind: str, name: object, *, rows: int = 0) -> None:
        """Count one problem, which dropped so many rows.

        `name` says where: a file, `file:line`, an image id.
        """
        problem = self._problems.setdefault(kind, Problem())
        problem.count += 1
        problem.rows += rows
        if len(problem.names) < FIRST_NAMES:
            problem.names.append(_shorten(str(name)))

    def add_once(self, kind: str, name: object, *, key: object, rows: int = 0) -> None:
        """As `add`, but equal keys count once, as for what each epoch meets again.

        The dropped rows count each time.
        """
        if (kind, key) not in self._met:
            self._met.add((kind, key))
            self.add(kind, name)
        self._problems[kind].rows += rows

    def merge(self, other: Report) -> None:
        """Add the account of `other` (another worker's or another data set's) to this one."""
        self.used += other.used
        self.unused += other.unused
        for kind, theirs in list(other._problems.items()):
            mine = self._problems.setdefault(kind, Problem())
            room = FIRST_NAMES - len(mine.names)
            mine.names.extend(theirs.names[:room])
            mine.count += theirs.count
            mine.rows += theirs.rows

    def summary(self) -> str:
        """One line per kind, `kind: count (first names, ...)`; empty when all was well."""
        return "\n".join(f"{kind}: {problem}" for kind, problem in self._problems.items())

    def __bool__(self) -> bool:
        return bool(self._problems)

    def __iter__(self) -> Iterator[tuple[str, Problem]]:
        return iter(self._problems.items())

    def __repr__(self) -> str:
        return f"Report({self.summary()!r})"


def _shorten(name: str) -> str:
    # A name with a line break or a broken encoding must not spoil the log that shows it.
    text = one_line(name).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= 200 else text[:197] + "..."
