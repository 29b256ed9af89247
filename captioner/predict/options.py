"""Decoding options of one call, checked against the checkpoint and the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from captioner.config import Config, DecodingConfig
from captioner.config.parsing import parse_value, to_dict
from captioner.errors import CaptionerError
from captioner.predict.checks import check_count

DECODING = tuple(f.name for f in dataclasses.fields(DecodingConfig))
"""Options that are fields of `DecodingConfig`."""
_LISTS = ("must_include", "banned")
_RANKING = ("length_penalty", "length_form")
"""Options that rank the hypotheses of a beam search and have no other effect."""


def select_decoding(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decoding options among a function's arguments, without those that are None."""
    return {name: arguments[name] for name in DECODING if arguments[name] is not None}


def resolve_decoding(
    config: Config, options: Mapping[str, Any], *, max_length: int, num_captions: int
) -> DecodingConfig:
    """Return the checkpoint's decoding settings, replaced by the options that are given.

    Args:
        config: The checkpoint's configuration.
        options: Fields of `DecodingConfig`.
        max_length: The largest number of tokens that the model can generate.
        num_captions: The number of captions that are wanted of each image.

    Raises:
        CaptionerError: An option cannot be used, or has no effect.
    """
    check_count("num_captions", num_captions)
    given = dict(options)
    for name in _LISTS:
        if isinstance(given.get(name), str):
            given[name] = [given[name]]
    base = to_dict(config.decoding)
    longest = given.get("max_length")
    if type(longest) is int and longest > 0:
        base["min_length"] = min(base["min_length"], longest - 1)
    if given.get("method", base["method"]) == "sample":
        if "beam_size" in given:
            raise CaptionerError(
                "beam_size: sampling uses no beams; it draws num_captions captions of each image"
            )
        base |= {"groups": 1, "diversity": 0.0}
    decoding = parse_value(DecodingConfig, base | given, "decoding")
    if not 1 <= decoding.max_length <= max_length:
        raise CaptionerError(
            f"max_length={decoding.max_length}: expected 1 to {max_length}, the limit of this model"
        )
    if decoding.method == "sample" or decoding.beam_size == 1:
        for name in _RANKING:
            if name in given and getattr(decoding, name) != getattr(DecodingConfig, name):
                raise CaptionerError(
                    f"{name} ranks the hypotheses of a beam search; it has no effect on sampling,"
                    " on a stream or with beam_size=1"
                )
    if decoding.method == "beam" and num_captions > decoding.beam_size:
        raise CaptionerError(
            f"num_captions={num_captions} is more than beam_size={decoding.beam_size};"
            " a beam search returns at most as many captions as it has beams"
        )
    return decoding
