"""The texts of a chat completion: written or drawn, cut where they end, and sent as chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from captioner.predict.pieces import Piece, split_text
from captioner.predict.results import Answer, Caption
from captioner.serve.decoder_pool import Picture
from captioner.serve.engine import Engine
from captioner.serve.routes.chat_fields import ChatRequest, choice_seed
from captioner.serve.routes.native import begun
from captioner.serve.routes.truncation import Truncation

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Chat:
    """A chat request that has been read."""

    asked: ChatRequest
    picture: Picture
    question: str | None
    """None where a caption is asked for."""
    head: dict[str, Any]
    """Fields of the completion and of each chunk."""


async def complete(engine: Engine, chat: Chat) -> dict[str, Any]:
    """Return OpenAI's `chat.completion`."""
    choices, tokens = [], 0
    for index, source in enumerate(await _sources(engine, chat)):
        end = _truncation(chat)
        text = "".join([text async for text in _write(source, end)])
        message = {"role": "assistant", "content": text}
        choices.append({"index": index, "message": message, "finish_reason": end.reason})
        tokens += end.tokens
    return {**chat.head, "choices": choices, "usage": _usage(engine, chat, tokens)}


async def stream_chunks(engine: Engine, chat: Chat) -> AsyncIterator[Chunk]:
    """Return the iterator over OpenAI's `chat.completion.chunk`, once the first text is known.

    Errors up to then are raised, so that they have an HTTP status of their own.
    """
    ends = [_truncation(chat) for _ in range(chat.asked.n or 1)]
    sources = await _sources(engine, chat)
    texts = [_write(source, end) for source, end in zip(sources, ends, strict=False)]
    texts[0] = await begun(texts[0])
    return _chunks(engine, chat, texts, ends)


async def _chunks(
    engine: Engine, chat: Chat, texts: Sequence[AsyncIterator[str]], ends: Sequence[Truncation]
) -> AsyncIterator[Chunk]:
    shared = {**chat.head, "object": "chat.completion.chunk"}
    if chat.asked.include_usage:
        shared["usage"] = None

    def chunk(index: int, delta: dict[str, str], reason: str | None = None) -> Chunk:
        return {**shared, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}

    for index, written in enumerate(texts):
        yield chunk(index, {"role": "assistant", "content": ""})
        async with aclosing(written):
            async for text in written:
                yield chunk(index, {"content": text})
        yield chunk(index, {}, ends[index].reason)
    if chat.asked.include_usage:
        tokens = sum(end.tokens for end in ends)
        yield {**shared, "choices": [], "usage": _usage(engine, chat, tokens)}


async def _sources(engine: Engine, chat: Chat) -> list[AsyncIterator[Piece]]:
    """Return the pieces of each choice, without regard to where it is to be cut.

    What a search finds is known as a whole. One text of a stream, and each drawn answer, is
    written token by token.
    """
    asked, count = chat.asked, chat.asked.n or 1
    options = asked.sampling()
    if options and chat.question is not None:
        seeds = [choice_seed(options["seed"], index) for index in range(count)]
        return [
            engine.stream(chat.picture, question=chat.question, options={**options, "seed": seed})
            for seed in seeds
        ]
    if asked.stream and count == 1:
        return [engine.stream(chat.picture, question=chat.question, options=options)]
    if chat.question is not None:
        answers = await engine.ask(chat.picture, chat.question, num_answers=count)
        return [_iterate(_split(engine, answer)) for answer in answers.answers]
    result = await engine.caption(chat.picture, num_captions=count, options=options)
    return [_iterate(_split(engine, caption)) for caption in result.captions]


async def _write(source: AsyncIterator[Piece], end: Truncation) -> AsyncIterator[str]:
    """Yield a text until its end; ends the writing there."""
    async with aclosing(source):
        async for piece in source:
            if text := end.push(piece):
                yield text
            if end.ended:
                return
    if rest := end.close():
        yield rest


def _split(engine: Engine, result: Caption | Answer) -> list[Piece]:
    """Return the pieces of a text that is known as a whole."""
    if not result.tokens:
        return [Piece(result.text)]
    pieces = list(split_text(result.tokens, engine.captioner.tokenizer))
    # An answer has no spaces at its ends.
    before, after = (str.lstrip, str.rstrip) if isinstance(result, Answer) else (str, str)
    for order, strip in ((range(len(pieces)), before), (reversed(range(len(pieces))), after)):
        for place in order:
            pieces[place] = Piece(strip(pieces[place]), pieces[place].tokens)
            if pieces[place]:
                break
    return pieces


async def _iterate(pieces: Sequence[Piece]) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece


def _truncation(chat: Chat) -> Truncation:
    return Truncation(limit=chat.asked.limit, stop=chat.asked.stop or ())


def _usage(engine: Engine, chat: Chat, tokens: int) -> dict[str, int]:
    """Return the token counts: of the question, and of the texts up to where they end."""
    before = engine.count_tokens([chat.question or ""])
    usage = {"prompt_tokens": before, "completion_tokens": tokens}
    return {**usage, "total_tokens": before + tokens}
