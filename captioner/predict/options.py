"""Options of decoding and texts, checked against what the model can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from captioner.config import Config, DecodingConfig
from captioner.config.parsing import parse_value, to_dict
from captioner.errors import CaptionerError
from captioner.predict.checks import check_count, check_text, short
from captioner.text import normalize_caption
from captioner.tokenizer import Tokenizer

DECODING = tuple(f.name for f in dataclasses.fields(DecodingConfig))
"""Options that are fields of `DecodingConfig`."""
_LISTS = ("must_include", "banned")
_RANKING = ("length_penalty", "length_form")
"""Options that decide between the hypotheses of a beam search, and change nothing else."""


def choose_decoding(
    config: Config, options: Mapping[str, Any], *, longest: int, count: int
) -> DecodingConfig:
    """Return the decoding of the checkpoint with these options; those of None are unset.

    Args:
        longest: The most tokens that the model can write.
        count: How many captions of an image are wanted.

    Raises:
        CaptionerError: An option cannot be used, or would change nothing.
    """
    check_count("num_captions", count)
    given = {name: value for name, value in options.items() if value is not None}
    for name in _LISTS:
        if isinstance(given.get(name), str):
            given[name] = [given[name]]
    base = to_dict(config.decoding)
    if given.get("method", base["method"]) == "sample":
        if "beam_size" in given:
            raise CaptionerError("beam_size: sampling draws num_captions captions, without beams")
        base |= {"groups": 1, "diversity": 0.0}
    decoding = parse_value(DecodingConfig, base | given, "decoding")
    if not 1 <= decoding.max_length <= longest:
        raise CaptionerError(f"max_length must lie between 1 and this model's {longest}")
    if decoding.method == "sample" or decoding.beam_size == 1:
        for name in _RANKING:
            if name in given and getattr(decoding, name) != getattr(DecodingConfig, name):
                raise CaptionerError(
                    f"{name} decides between the hypotheses of a beam search; it has no effect on"
                    " sampling, on a stream or with beam_size=1"
                )
    if decoding.method == "beam" and count > decoding.beam_size:
        raise CaptionerError(
            f"num_captions={count} is more than beam_size={decoding.beam_size};"
            " a search returns at most as many captions as it has beams"
        )
    return decoding


def encode_text(text: Any, tokenizer: Tokenizer, *, longest: int, lowercase: bool) -> list[int]:
    """The ids of a text as the model would write it, EOS last; raises CaptionerError."""
    check_text(text, "a text", CaptionerError)
    tidy = normalize_caption(text, lowercase=lowercase)
    if not tidy:
        raise CaptionerError(f"texts: {text!r} says nothing")
    ids = tokenizer.encode(tidy)
    if len(ids) > longest:
        raise CaptionerError(
            f"texts: {short(text)} has {len(ids)} tokens; this model writes at most {longest}, the"
            " end mark included"
        )
    return ids


def unfinished(decoding: DecodingConfig) -> CaptionerError:
    """What to say of an image that the options leave no caption for."""
    return CaptionerError(
        f"no caption of {decoding.max_length} tokens keeps to all that was asked of it; allow more"
        " tokens or beams, or ask for less"
    )
