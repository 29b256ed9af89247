"""The texts of a chat completion: search or sampling, truncation, and chunks of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from captioner.predict.pieces import Piece, split_text
from captioner.predict.results import Answer, Caption
from captioner.serve.decoder_pool import DecodedInput
from captioner.serve.engine import Engine
from captioner.serve.routes.chat_fields import ChatRequest, choice_seed
from captioner.serve.routes.event_stream import await_first
from captioner.serve.routes.truncation import Truncation

Chunk = dict[str, Any]
Pieces = AsyncGenerator[Piece, None]
Text = AsyncGenerator[str, None]


@dataclass(frozen=True)
class Chat:
    """A parsed chat request."""

    fields: ChatRequest
    image: DecodedInput
    question: str | None
    """The question; None if a caption is requested."""
    head: dict[str, Any]
    """Fields of the completion and of each chunk."""


async def complete(engine: Engine, chat: Chat) -> dict[str, Any]:
    """Return OpenAI's `chat.completion`."""
    choices, tokens = [], 0
    for index, pieces in enumerate(await _generate_choices(engine, chat)):
        end = _create_truncation(engine, chat)
        text = "".join([text async for text in _truncate(pieces, end)])
        message = {"role": "assistant", "content": text}
        choices.append({"index": index, "message": message, "finish_reason": end.reason})
        tokens += end.tokens
    return {**chat.head, "choices": choices, "usage": _count_usage(engine, chat, tokens)}


async def stream_chunks(engine: Engine, chat: Chat) -> AsyncGenerator[Chunk, None]:
    """Return an iterator over OpenAI's `chat.completion.chunk` once the first text is known.

    An error before that is raised here, so that it gets an HTTP status.
    """
    ends = [_create_truncation(engine, chat) for _ in range(chat.fields.n or 1)]
    choices = await _generate_choices(engine, chat)
    texts = [_truncate(pieces, end) for pieces, end in zip(choices, ends, strict=False)]
    texts[0] = await await_first(texts[0])
    return _chunks(engine, chat, texts, ends)


async def _chunks(
    engine: Engine, chat: Chat, texts: Sequence[Text], ends: Sequence[Truncation]
) -> AsyncGenerator[Chunk, None]:
    shared = {**chat.head, "object": "chat.completion.chunk"}
    if chat.fields.include_usage:
        shared["usage"] = None

    def chunk(index: int, delta: dict[str, str], reason: str | None = None) -> Chunk:
        return {**shared, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}

    for index, text in enumerate(texts):
        yield chunk(index, {"role": "assistant", "content": ""})
        async with aclosing(text):
            async for piece in text:
                yield chunk(index, {"content": piece})
        yield chunk(index, {}, ends[index].reason)
    if chat.fields.include_usage:
        tokens = sum(end.tokens for end in ends)
        yield {**shared, "choices": [], "usage": _count_usage(engine, chat, tokens)}


async def _generate_choices(engine: Engine, chat: Chat) -> list[Pieces]:
    """Return the pieces of each choice, before truncation.

    A single streamed text and sampled answers are generated token by token; results of a search
    are complete from the start.
    """
    fields, count = chat.fields, chat.fields.n or 1
    options = fields.sampling_options()
    if options and chat.question is not None:
        seeds = [choice_seed(options["seed"], index) for index in range(count)]
        return [
            engine.stream(chat.image, question=chat.question, options={**options, "seed": seed})
            for seed in seeds
        ]
    if fields.stream and count == 1:
        return [engine.stream(chat.image, question=chat.question, options=options)]
    if chat.question is not None:
        answers = await engine.answer(chat.image, chat.question, num_answers=count)
        return [_iterate(_split(engine, answer)) for answer in answers.answers]
    result = await engine.caption(chat.image, num_captions=count, options=options)
    return [_iterate(_split(engine, caption)) for caption in result.captions]


async def _truncate(pieces: Pieces, end: Truncation) -> Text:
    """Yield a text up to its truncation, and stop its generation there."""
    async with aclosing(pieces):
        async for piece in pieces:
            if text := end.push(piece):
                yield text
            if end.ended:
                return
    if rest := end.close():
        yield rest


def _split(engine: Engine, result: Caption | Answer) -> list[Piece]:
    """Return the pieces of a complete text."""
    if not result.tokens:
        return [Piece(result.text)]
    pieces = list(split_text(result.tokens, engine.loaded.tokenizer))
    if isinstance(result, Answer):  # an answer has no spaces at its ends
        _strip_until_text(pieces, range(len(pieces)), str.lstrip)
        _strip_until_text(pieces, reversed(range(len(pieces))), str.rstrip)
    return pieces


def _strip_until_text(
    pieces: list[Piece], order: Iterable[int], strip: Callable[[str], str]
) -> None:
    """Strip pieces in the given order, up to the first one that is not empty then."""
    for index in order:
        pieces[index] = Piece(strip(pieces[index]), pieces[index].tokens)
        if pieces[index]:
            return


async def _iterate(pieces: Sequence[Piece]) -> Pieces:
    for piece in pieces:
        yield piece


def _create_truncation(engine: Engine, chat: Chat) -> Truncation:
    config = engine.loaded.config
    search = config.decoding if chat.question is None else config.answers
    stop = chat.fields.stop or ()
    return Truncation(limit=chat.fields.limit, longest=search.max_length, stop=stop)


def _count_usage(engine: Engine, chat: Chat, tokens: int) -> dict[str, int]:
    """Return the numbers of tokens: of the question, and of the truncated texts."""
    prompt = len(engine.loaded.tokenizer.encode(chat.question)) if chat.question else 0
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens}
    return {**usage, "total_tokens": prompt + tokens}
