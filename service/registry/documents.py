"""Reading documents that people write: every mistake is named, none of it is echoed."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.errors import InvalidDocumentError, NotImplementedYetError

MOST_LISTED = 100
# To write down more takes seconds, and all of the memory.
MOST_COUNTED = 1000
LONGEST_NAME = 60

LONGEST_FEATURE = 200
# NUL and its like cannot be stored or would garble every page and log that shows them.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
FeatureName = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_FEATURE, pattern=PRINTABLE)
]

# Pydantic's own words for these name a Python class.
_MESSAGES = {"model_type": "must be an object", "extra_forbidden": "unknown key"}


_STORED = object()


class Document(BaseModel):
    """A document or a part of one; a key that it does not have is an error.

    ``later`` are keys of the interface that this release does not have, and ``part`` is where in
    its document a part stands.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    part: ClassVar[str] = ""
    later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_keys(cls, content: Any, info: ValidationInfo) -> Any:
        if not isinstance(content, Mapping):
            return content
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if info.context is _STORED:
            return {key: value for key, value in content.items() if key in known}
        for key in content:
            if key in cls.later:
                what = f"{cls.part}{key}"
                raise NotImplementedYetError(what)
            if key not in known:
                text = f"unknown key {printable(key)}{hint(key, known)}"
                code = "unknown-key"
                raise PydanticCustomError(code, "{text}", {"text": text})
        return content


D = TypeVar("D", bound=Document)


def read(kind: type[D], content: object) -> D:
    """Validate a document, or raise one ``InvalidDocumentError`` that lists what is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise invalid(error) from None


def read_stored(kind: type[D], content: object) -> D:
    """Read a document that was accepted once, perhaps by a later release that runs beside this."""
    return kind.model_validate(content, context=_STORED)


def invalid(fault: ValidationError) -> InvalidDocumentError:
    """Turn pydantic's errors into ours."""
    if fault.error_count() > MOST_COUNTED:
        return InvalidDocumentError(f"{fault.error_count()} mistakes are too many to list")
    found = [
        {
            "field": ".".join(printable(part) for part in error["loc"]),
            "code": str(error["type"]).replace("_", "-"),
            "detail": _MESSAGES.get(error["type"], error["msg"].removeprefix("Value error, ")),
        }
        for error in fault.errors(include_url=False, include_input=False)
    ]
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"{first['field']}: " if first["field"] else ""
    return InvalidDocumentError(f"{where}{first['detail']}{more}", rejected=found[:MOST_LISTED])


def hint(word: object, known: Sequence[str]) -> str:
    """Return "; did you mean …?", or nothing if no known word is near."""
    near = get_close_matches(word, known, 1) if isinstance(word, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def printable(name: object) -> str:
    """Return a name as it may stand in a message: short, and no control or bidi characters."""
    text = str(name)[:LONGEST_NAME]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
