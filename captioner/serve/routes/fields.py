"""Request models that reject unknown fields, and the errors for fields that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from captioner.config.parsing import find_nearest
from captioner.serve.http_errors import Refusal

Model = TypeVar("Model", bound=BaseModel)

_TYPE = re.compile(r"str|[A-Z]\w*|\w+\[.*")
"""Parts of an error's location that are the types of a union."""
_SHOWN = 60
"""Characters of a field's name or value that a message quotes."""


class Fields(BaseModel):
    """Base of request models: an unknown field is an error that names the nearest valid one.

    Class attributes:
        also_valid: Names that the request may hold besides the fields, such as `image`.
        elsewhere: What to use instead of a field that this request does not have, by its name.
        group: The name of the object that holds the fields, with a dot; empty for the request.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    also_valid: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[Mapping[str, str]] = {}
    group: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            reject_unknown(
                values,
                cls.model_fields,
                suggestions=(*cls.also_valid, *cls.model_fields),
                elsewhere=cls.elsewhere,
                group=cls.group,
            )
        return values


def reject_unknown(
    names: Iterable[Any],
    valid: Iterable[str],
    *,
    suggestions: Iterable[str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
    group: str = "",
) -> None:
    """Raise Refusal for the first name that is not valid, and say what to use instead.

    Args:
        names: Names of the fields that were sent.
        valid: Names of the fields that exist.
        suggestions: Names that the message may suggest; those of `valid` by default.
        elsewhere: Advice for names that are valid in another request.
        group: Prefix of the names in the message.
    """
    valid = list(valid)
    for name in map(str, names):
        if name in valid:
            continue
        if elsewhere and name in elsewhere:
            message = f"not an option here; {elsewhere[name]}"
        else:
            near = find_nearest(name, valid if suggestions is None else suggestions)
            message = f"unknown option; the nearest valid name is {group}{near}"
        raise Refusal(422, "unknown_option", f"{group}{shown(name)}: {message}")


def unusable(name: str, message: str) -> Refusal:
    """Return the error for a known field whose value cannot be applied."""
    return Refusal(422, "bad_request", f"{name}: {message}")


def check(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return the validated fields; raises Refusal that names the first field with an error."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        # Of a field that may be of several types, the one that fits best.
        same = [each for each in errors if each["loc"][:1] == errors[0]["loc"][:1]]
        first = max(same, key=lambda each: len(each["loc"]))
        place = ".".join(str(part) for part in first["loc"] if not _TYPE.fullmatch(str(part)))
        raise unusable(place, first["msg"]) from None


def shown(name: str) -> str:
    """Return a name as messages quote it: one line, printable and not too long."""
    short = name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "..."
    return short if short.isprintable() and short.strip() == short != "" else repr(short)
