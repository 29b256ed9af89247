"""From images to their captions or answers, in order, and from these to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from captioner.cli.batch.dedupe import Source, once_each, source_of
from captioner.cli.batch.row_file import Row, RowFile
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.predict import Answers, Captioner, Result


def captions_of(
    captioner: Captioner, sources: Iterator[Source], *, alt_length: int | None, **options: Any
) -> Iterator[Result]:
    """What comes of each image; with `alt_length`, one sentence of so many characters at most."""
    results = captioner.caption_stream(sources, **options)
    return results if alt_length is None else (_sentence(r, alt_length) for r in results)


def answers_of(
    captioner: Captioner, sources: Iterator[Source], question: str, *, batch_size: int, **how: Any
) -> Iterator[Answers]:
    """The answers to one question about each image, a batch at a time."""
    while batch := list(islice(sources, batch_size)):
        pairs = [(source, question) for source in batch]
        yield from captioner.answer_stream(pairs, batch_size=batch_size, **how)


def rows_of(
    paths: Sequence[str],
    describe: Callable[[Iterator[Source]], Iterator[Any]],
    row_of: Callable[[str, Any], Row],
    *,
    output: RowFile | None,
    name: Callable[[str], str],
) -> Iterator[tuple[str, Row]]:
    """Each path with its row, of what `describe` makes of the sources.

    Rows for a file (`output`) are made once for each content: the others have the first one's
    path as `same_as`. Whoever takes a row appends it before the next is asked for.
    """
    if output is None:
        for path, result in zip(paths, describe(map(source_of, paths)), strict=True):
            yield path, row_of(path, result)
        return
    for path, content, result in once_each(paths, describe, output.known, name=name):
        if result is None:
            yield path, output.repeat(name(path), output.known[content])
        else:
            row = row_of(path, result)
            yield path, row | ({"sha256": content.hex()} if content else {})


def _sentence(result: Result, length: int) -> Result:
    # Imported here: it has its words from a module that imports torch.
    from captioner.cli.batch.alt_text import alt_text

    if result.error is not None:
        return result
    found = alt_text([caption.text for caption in result.captions], length=length)
    if found is None:
        error = CaptionerError(f"no caption makes a sentence of {length} characters; allow more")
        return replace(result, captions=(), error=error)
    place, text = found
    return replace(result, captions=(replace(result.captions[place], text=text),))
