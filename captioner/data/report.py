"""What was wrong with a data set: counted by kind, with the first few names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# The kinds that the readers report. Others may be added freely: a kind is only a string.
MISSING_IMAGE = "missing image"
NO_CAPTION = "image without captions"
NO_SPLIT = "captioned image in no split list"
BAD_ROW = "row that cannot be parsed"
BAD_TEXT = "text that is not UTF-8"
EMPTY_CAPTION = "empty caption"
EMPTY_QUESTION = "empty question"
EMPTY_ANSWER = "empty answer"
NO_ANSWER = "question without answers"
DUPLICATE = "duplicate"
UNREADABLE_IMAGE = "image that cannot be decoded"

FIRST_NAMES = 5


@dataclass
class Problem:
    """One kind of problem: how many, and the first names (at most `FIRST_NAMES`)."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.names) else ""
        return f"{self.count} ({', '.join(self.names)}{more})"


class Report:
    """Problems met while reading, by kind. True when there are any; picklable and mergeable."""

    def __init__(self) -> None:
        self._problems: dict[str, Problem] = {}
        self._met: set[tuple[str, object]] = set()

    @property
    def problems(self) -> Mapping[str, Problem]:
        """The problems by kind, in the order in which the kinds were first met."""
        return self._problems

    def add(self, kind: str, name: object) -> None:
        """Counts one problem; `name` says where: a file, `file:line`, an image id."""
        problem = self._problems.setdefault(kind, Problem())
        problem.count += 1
        if len(problem.names) < FIRST_NAMES:
            problem.names.append(_one_line(str(name)))

    def add_once(self, kind: str, name: object, *, key: object) -> None:
        """As `add`, but of equal keys only the first counts: what each epoch meets again."""
        if (kind, key) not in self._met:
            self._met.add((kind, key))
            self.add(kind, name)

    def merge(self, other: Report) -> None:
        """Adds the problems of `other` (another worker's or another split's) to these."""
        for kind, theirs in list(other._problems.items()):
            mine = self._problems.setdefault(kind, Problem())
            room = FIRST_NAMES - len(mine.names)
            mine.names.extend(theirs.names[:room])
            mine.count += theirs.count

    def summary(self) -> str:
        """One line per kind, `kind: count (first names, ...)`; empty when all was well."""
        return "\n".join(f"{kind}: {problem}" for kind, problem in self._problems.items())

    def __bool__(self) -> bool:
        return bool(self._problems)

    def __iter__(self) -> Iterator[tuple[str, Problem]]:
        return iter(self._problems.items())

    def __repr__(self) -> str:
        return f"Report({self.summary()!r})"


def _one_line(name: str) -> str:
    # A name with a line break or a broken encoding must not spoil the log that shows it.
    text = " ".join(name.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= 200 else text[:197] + "..."
