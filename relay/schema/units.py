"""How is a value written?  Times, rates, and keys that may be written in two ways."""

import dataclasses
import re
from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
)

from relay import moment

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

DURATION: Final = r"^\d{1,9}(\.\d{1,3})?(ms|s|m|h|d)$"
RATE: Final = r"^[1-9]\d{0,8}/(\d{1,9}(\.\d{1,3})?)?(ms|s|min|h)$"
"""What `duration` and `every_ms` read, as editors check it."""

_Time: TypeAlias = Annotated[str, Field(pattern=DURATION)]
_Text: TypeAlias = Annotated[str, Field(min_length=1)]
_Several: TypeAlias = Annotated[list[_Text], Field(min_length=1)]


def duration(text: object) -> int:
    """Read ``500ms``, ``10s``, ``5m``, ``1h`` or ``7d`` as milliseconds. Raises ValueError."""
    found = moment.duration(text)
    if found is not None:
        return found
    raise ValueError('expected a time such as "500ms", "10s", "5m", "1h" or "7d"')


def said(millis: int) -> str:
    """Write milliseconds as `duration` reads them: ``6h``, ``90s``."""
    unit = next(one for one in ("d", "h", "m", "s", "ms") if not millis % _UNITS[one])
    return f"{millis // _UNITS[unit]}{unit}" if millis else "0s"


def every_ms(rate: str) -> int:
    """Read ``60/min`` or ``3/8.5s`` as milliseconds between two calls, rounded up. Raises ValueError."""
    match = re.fullmatch(r"([1-9]\d{0,8})/(\d{1,9}(?:\.\d{1,3})?)?(ms|s|min|h)", rate, re.ASCII)
    if match and (period := round(float(match[2] or 1) * _UNITS[match[3]])):
        return -(-period // int(match[1]))
    raise ValueError('expected a rate such as "60/min", "10/s" or "3/8.5s"')


def between(least: str, most: str = "365d") -> PlainValidator:
    """Take a time that is no shorter than *least* and no longer than *most*."""
    low, high = duration(least), duration(most)

    def read(value: object) -> int:
        found = duration(value)
        if not low <= found <= high:
            raise ValueError(f"expected a time from {least} to {most}")
        return found

    return PlainValidator(read, json_schema_input_type=_Time)


_CONFIG: Final = ConfigDict(strict=True, hide_input_in_errors=True)
_SEVERAL: Final = TypeAdapter(_Several, config=_CONFIG)


def _texts(value: object) -> list[str]:
    if isinstance(value, str) and value:
        return [value]
    if isinstance(value, list):
        return _SEVERAL.validate_python(value)
    raise ValueError("expected text or a list of texts")


def waits(least: str) -> PlainValidator:
    """Take a time or a list of times, none shorter than *least*."""
    several = TypeAdapter(
        Annotated[list[Annotated[int, between(least)]], Field(min_length=1)], config=_CONFIG
    )

    def read(value: object) -> list[int]:
        if isinstance(value, str):
            return several.validate_python([value])
        if isinstance(value, list):
            return several.validate_python(value)
        raise ValueError('expected a time such as "5m", or a list of times')

    return PlainValidator(read, json_schema_input_type=_Time | Annotated[list[_Time], Field(min_length=1)])


def _tables(value: object) -> object:
    if isinstance(value, dict) or (
        isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    ):
        return value
    raise ValueError("expected a pattern, or a list of patterns of which one is enough")


def _scalar(value: object) -> object:
    if isinstance(value, str | int):
        return value
    raise ValueError("expected text, a number, or true or false")


def either(plain: type, name: str, model: type[BaseModel]) -> PlainValidator:
    """Take a *plain* value, which people call *name*, or a table that fits *model*."""

    def read(value: object) -> object:
        if isinstance(value, plain | model):
            return value
        if isinstance(value, dict):
            return model.model_validate(value)
        raise ValueError(f"expected {name} or a table")

    return PlainValidator(read, json_schema_input_type=plain | model)


def counted(model: type[BaseModel]) -> PlainValidator:
    """Take a number of things, or a list of tables that fit *model*, one for each of them."""
    several = TypeAdapter(list[model], config=_CONFIG)  # type: ignore[valid-type]
    number = Annotated[int, Field(ge=0)]

    def read(value: object) -> object:
        if isinstance(value, list):
            return several.validate_python(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise ValueError("expected a number from 0 on, or a list of tables")

    return PlainValidator(read, json_schema_input_type=number | list[model])  # type: ignore[valid-type]


def _names(value: object) -> object:
    if isinstance(value, str) and value:
        return [value]
    if isinstance(value, list):
        return [] if not value else _SEVERAL.validate_python(value)
    raise ValueError("expected text or a list of texts")


def _told(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    raise ValueError("expected text, or true or false")


def _instant(value: object) -> object:
    found = moment.instant(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('expected an instant such as "2026-11-23T08:00:00Z"')
    return found


def _rate(value: str) -> str:
    every_ms(value)
    return value


Texts: TypeAlias = Annotated[list[str], PlainValidator(_texts, json_schema_input_type=_Text | _Several)]
Table: TypeAlias = dict[str, Any]
Patterns: TypeAlias = Annotated[Any, PlainValidator(_tables, json_schema_input_type=Table | list[Table])]
Scalar: TypeAlias = Annotated[Any, PlainValidator(_scalar, json_schema_input_type=str | int | bool)]
Names: TypeAlias = Annotated[list[str], PlainValidator(_names, json_schema_input_type=_Text | list[_Text])]
Told: TypeAlias = Annotated[bool | str, PlainValidator(_told, json_schema_input_type=_Text | bool)]
Instant: TypeAlias = Annotated[int, PlainValidator(_instant, json_schema_input_type=_Text)]
Duration: TypeAlias = Annotated[int, between("0s")]
Rate: TypeAlias = Annotated[str, AfterValidator(_rate), WithJsonSchema({"type": "string", "pattern": RATE})]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400)]


def defaults(word: type) -> dict[str, Any]:
    """Return the defaults of a word of the house: a default is written once, on the value."""
    return {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in dataclasses.fields(word)
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }


class Strict(BaseModel):
    """A table whose every key is known, and whose every value has the type it says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)
