"""Base class of request models, which rejects unknown fields, and errors for invalid fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from captioner.config.parsing import find_nearest
from captioner.serve.http_errors import RequestError

Model = TypeVar("Model", bound=BaseModel)

_TYPE = re.compile(r"str|[A-Z]\w*|[\w-]+\[.*")
"""Parts of a validation error's location that name the types of a union."""
_MAX_QUOTED = 60
"""Maximum number of characters that a message quotes of a field's name or value."""
_SIMILAR = 0.75
"""Similarity, from 0 to 1, above which an unknown name is taken for one of another request."""


class Fields(BaseModel):
    """Base of request models: an unknown field is an error that names the nearest valid one.

    Class attributes:
        also_valid: Names that the request may contain besides the fields, such as `image`.
        advice: Alternatives to fields that only other requests have, by field name.
        group: Name of the object that contains the fields, with a dot; empty for the request.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    also_valid: ClassVar[tuple[str, ...]] = ()
    advice: ClassVar[Mapping[str, str]] = {}
    group: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            fields = cls.model_fields.items()
            effective = [name for name, field in fields if field.json_schema_extra is None]
            names = (*cls.also_valid, *effective)
            reject_unknown(values, cls.model_fields, names, advice=cls.advice, group=cls.group)
        return values

    @model_validator(mode="after")
    def _reject_unsupported(self) -> Fields:
        for name, field in type(self).model_fields.items():
            if isinstance(field.json_schema_extra, dict):
                allowed = field.json_schema_extra["enum"]
                if isinstance(allowed, list) and getattr(self, name) not in allowed:
                    values = " or ".join(map(json.dumps, allowed))
                    raise field_error(name, f"not supported; leave it out, or send {values}")
        return self


def unsupported(*neutral: Any) -> Any:
    """Return a field that the model cannot apply; `neutral` are its values without effect."""
    text, values = "Not supported: only values without effect are accepted", [*neutral, None]
    return Field(default=None, description=text, json_schema_extra={"enum": values})


def information() -> Any:
    """Return a field that describes the request and has no effect on the text."""
    return Field(default=None, description="For information: it does not change the text")


def reject_unknown(
    names: Iterable[Any],
    valid: Iterable[str],
    suggestions: Iterable[str] | None = None,
    *,
    advice: Mapping[str, str] | None = None,
    group: str = "",
) -> None:
    """Raise RequestError for the first name that is not valid, and say what to use instead.

    It suggests the nearest of `suggestions`, by default of `valid`. For a name that is valid in
    other requests, or is near to one, it quotes the `advice`. `group` is the prefix of the names.
    """
    valid, advice = list(valid), advice or {}
    for name in map(str, names):
        if name in valid:
            continue
        if name in advice:
            message = f"not an option here; {advice[name]}"
        else:
            candidates = list(valid if suggestions is None else suggestions)
            similar = get_close_matches(name[:100], [*candidates, *advice], n=1, cutoff=_SIMILAR)
            near = similar[0] if similar else find_nearest(name, candidates)
            message = f"unknown option; the nearest valid name is {group}{near}"
            if near not in candidates:
                message = f"unknown option; for {near}, {advice[near]}"
        raise RequestError(422, "unknown_option", f"{group}{quote_name(name)}: {message}")


def field_error(name: str, message: str) -> RequestError:
    """Return the error for a known field whose value cannot be applied."""
    return RequestError(422, "bad_request", f"{name}: {message}")


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return the validated fields; raises RequestError that names the first invalid field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        # A union reports one error per type; the deepest is of the type that fits best.
        same_field = [item for item in errors if item["loc"][:1] == errors[0]["loc"][:1]]
        deepest = max(same_field, key=lambda item: len(item["loc"]))
        path = ".".join(str(part) for part in deepest["loc"] if not _TYPE.fullmatch(str(part)))
        raise field_error(path, deepest["msg"]) from None


def quote_name(name: str) -> str:
    """Return a name as error messages quote it: one line, printable, at most 60 characters."""
    short = name if len(name) <= _MAX_QUOTED else name[: _MAX_QUOTED - 3] + "..."
    return short if short.isprintable() and short.strip() == short != "" else repr(short)
