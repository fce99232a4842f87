"""What may stand in the operator's files?  Every key once, with its default and a line about it."""

import dataclasses
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter

from relay.provider import Limit, Provider, Timeouts, Value
from relay.rule import Source

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration(text: object) -> int:
    """Read ``500ms``, ``10s``, ``5m``, ``1h`` or ``7d`` as milliseconds. Raises ValueError."""
    if isinstance(text, str) and (
        match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", text, re.ASCII)
    ):
        return round(float(match[1]) * _UNITS[match[2]])
    raise ValueError('expected a time such as "500ms", "10s", "5m", "1h" or "7d"')


def every_ms(rate: str) -> int:
    """Read ``60/min`` or ``3/8.5s`` as milliseconds between two calls, rounded up. Raises ValueError."""
    match = re.fullmatch(r"([1-9]\d{0,8})/(\d{1,9}(?:\.\d{1,3})?)?(ms|s|min|h)", rate, re.ASCII)
    if match and (period := round(float(match[2] or 1) * _UNITS[match[3]])):
        return -(-period // int(match[1]))
    raise ValueError('expected a rate such as "60/min", "10/s" or "3/8.5s"')


# -- fields that may be written in two ways --


_SEVERAL: Final = TypeAdapter(
    Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)],
    config=ConfigDict(strict=True, hide_input_in_errors=True),
)


def _texts(value: object) -> list[str]:
    if isinstance(value, str) and value:
        return [value]
    if isinstance(value, list):
        return _SEVERAL.validate_python(value)
    raise ValueError("expected text or a list of texts")


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


def _either(model: type[BaseModel]) -> Callable[[object], object]:
    """Take text, or a table that fits *model*."""

    def read(value: object) -> object:
        if isinstance(value, str | model):
            return value
        if isinstance(value, dict):
            return model.model_validate(value)
        raise ValueError("expected text or a table")

    return read


def _rate(value: str) -> str:
    every_ms(value)
    return value


Texts: TypeAlias = Annotated[list[str], PlainValidator(_texts, json_schema_input_type=str | list[str])]
Table: TypeAlias = dict[str, Any]
Patterns: TypeAlias = Annotated[Any, PlainValidator(_tables, json_schema_input_type=Table | list[Table])]
Scalar: TypeAlias = Annotated[Any, PlainValidator(_scalar, json_schema_input_type=str | int | bool)]
Duration: TypeAlias = Annotated[int, PlainValidator(duration, json_schema_input_type=str)]
Rate: TypeAlias = Annotated[str, AfterValidator(_rate)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=86_400)]


def _defaults(word: type) -> dict[str, Any]:
    """Return the defaults of a word of the house: a default is written once, on the value."""
    return {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in dataclasses.fields(word)
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }


_SOURCE: Final = _defaults(Source)
_LIMIT: Final = _defaults(Limit)
_TIMEOUTS: Final = _defaults(Timeouts)
_VALUE: Final = _defaults(Value)
_PROVIDER: Final = _defaults(Provider)


class Strict(BaseModel):
    """A table whose every key is known, and whose every value has the type it says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


# -- sources --


class PresetFile(Strict):
    """``sources/NAME.toml``: how a well-known sender proves who it is, and where it keeps its ids."""

    verify: Literal["hmac", "token", "none"] | None = Field(
        None, description="how senders prove who they are"
    )
    header: str = Field(_SOURCE["header"], description="the header of the signature or token")
    place: Literal["header", "path"] = Field(
        _SOURCE["place"], alias="in", description="where the token stands"
    )
    algorithm: Literal["sha256", "sha512", "sha1"] = Field(
        _SOURCE["algorithm"], description="the HMAC's hash"
    )
    encoding: Literal["hex", "base64"] = Field(
        _SOURCE["encoding"], description="how the signature is written"
    )
    prefix: str = Field(
        _SOURCE["prefix"],
        description="what stands before the signature or token; a token in Authorization has 'Bearer '",
    )
    delivery: Texts = Field(
        [], description="where the id of a delivery is: body:src.id or header:x-id; first found"
    )
    type: Texts = Field([], description="where the type of an event is, in the same way")
    redact: Texts = Field([], description="names of JSON members to cut before anything is stored")
    max_bytes: int = Field(_SOURCE["max_bytes"], ge=1, description="the largest body taken, in bytes")
    dedupe: Duration = Field(_SOURCE["dedupe_ms"], description="how long a delivery is known as a duplicate")


class SourceFile(PresetFile):
    """``[source.NAME]``: who may post to /hooks/NAME."""

    preset: str = Field("", description="a file of sources/ that fills in the rest")
    secrets: Texts = Field([], description="env:NAME or file:/path; several while one replaces another")
    i_know_this_is_unauthenticated: Literal[True] | None = Field(
        None, description='must be true with verify = "none": anyone can post events here'
    )


# -- providers --


class LimitFile(Strict):
    """How often a provider may be called."""

    rate: Rate | None = Field(None, description='calls in a time: "60/min", "3/8.5s"')
    burst: int = Field(_LIMIT["burst"], ge=1, description="calls at once after a rest")
    concurrency: int = Field(_LIMIT["concurrency"], ge=1, description="calls under way at the same time")


class TimeoutsFile(Strict):
    """Seconds a call may take."""

    connect: Seconds = Field(_TIMEOUTS["connect"], description="to connect")
    write: Seconds = Field(_TIMEOUTS["write"], description="between bytes going out")
    read: Seconds = Field(_TIMEOUTS["read"], description="between bytes coming in")
    total: Seconds = Field(_TIMEOUTS["total"], description="in all")


class OneHeader(Strict):
    """The plainest auth: one header."""

    header: str = Field(description="the header's name")
    value: str = Field(description='such as "Bearer {secret.token}"')


class SignFile(Strict):
    """How a request is signed with HMAC-SHA256."""

    key: str = Field(description='the first key: "{secret.NAME}"')
    derive: list[str] = Field([], description="texts that each turn the key into the next one")
    text: str = Field(description="what is signed: {method} {path} {params} {body_sha256} {timestamp}")


class AuthFile(Strict):
    """``[auths.NAME]``: one way to say who is calling."""

    headers: dict[str, str] = Field(
        description="header templates; {secret.NAME} asks the operator for a secret"
    )
    sign: SignFile | None = Field(None, description="how {signature} is made")


class OutcomeFile(Strict):
    """``[[outcomes]]``: what an answer means."""

    is_: Literal["done", "retry", "unknown", "dead", "refused"] = Field(
        alias="is", description="what it means; refused: our credentials are, and the provider is paused"
    )
    when: Table = Field(description="a pattern over status, headers and body")
    why: str = Field("", description="the reason to show")
    after: Duration = Field(0, description="retry no sooner than this")


class ValueFile(Strict):
    """``values.NAME``: what may fill a placeholder."""

    type: Literal["text", "integer", "boolean", "file", "any"] = Field(_VALUE["type"], description="its type")
    format: Literal["uuid"] | None = Field(_VALUE["format"], description="a well-known form")
    pattern: str | None = Field(_VALUE["pattern"], description="a regular expression for the whole value")
    max: int = Field(_VALUE["max"], ge=1, description="most bytes of UTF-8")
    optional: bool = Field(_VALUE["optional"], description="it may be left out")
    title: str = Field(_VALUE["title"], description="what it is, for people")


class MultipartFile(Strict):
    """A file in a multipart body."""

    file: str = Field(description='"{name}" of a value with type = "file"')
    type: str = Field("application/octet-stream", description="the media type")


Part: TypeAlias = Annotated[
    str | MultipartFile, PlainValidator(_either(MultipartFile), json_schema_input_type=str | MultipartFile)
]


class ShapeFile(Strict):
    """A request with holes."""

    request: str = Field(description='"METHOD /path/{value}"')
    query: dict[str, Scalar] = Field({}, description="query templates")
    headers: dict[str, str] = Field({}, description="header templates")
    json_: Any = Field(None, alias="json", description="a JSON body with templates at its leaves")
    multipart: dict[str, Part] = Field({}, description="a form: text templates, and files by {file, type}")


class RefusedFile(Strict):
    """A state of the resource in which it must not be retried."""

    when: Table = Field(description="a pattern over status, headers and body")
    why: str = Field("", description="the reason to show")


class CheckFile(ShapeFile):
    """``[action.NAME.check]``: a look at the resource; judged as refused, recovered, running, failed."""

    refused: list[RefusedFile] = Field([], description="states in which a retry is pointless or forbidden")
    recovered: Patterns = Field(None, description="it is well: nothing to do")
    running: Patterns = Field(None, description="it is being worked on: look again later")
    failed: Patterns = Field(description="it has failed: the call may be made")


class AnswerFile(Strict):
    """An answer in an example."""

    status: int = Field(ge=100, le=999, description="its status; some providers have made up their own")
    headers: dict[str, str] = Field({}, description="its headers")
    json_: Any = Field(None, alias="json", description="a JSON body")
    text: str | None = Field(None, description="a body of plain text")


class SentFile(Strict):
    """Any part of a request in an example."""

    method: str | None = Field(None, description="its method")
    path: str | None = Field(None, description="its encoded path")
    query: dict[str, str] | None = Field(None, description="its query")
    headers: dict[str, str] | None = Field(None, description="some of its headers")
    json_: Any = Field(None, alias="json", description="its JSON body")
    multipart: dict[str, str] | None = Field(None, description="its form; of a file, the name")


class ExampleFile(Strict):
    """``[[action.NAME.example]]``: a sample that the tests run."""

    with_: Table = Field({}, alias="with", description="the values")
    request: SentFile | None = Field(None, description="what goes out for them")
    answer: AnswerFile | None = Field(None, description="what comes back")
    outcome: Literal["done", "retry", "unknown", "dead", "refused"] | None = Field(
        None, description="and what it means"
    )
    look: AnswerFile | None = Field(None, description="what the check gets back")
    state: Literal["failed", "running", "recovered", "refused"] | None = Field(
        None, description="and what it means"
    )


class ActionFile(ShapeFile):
    """``[action.NAME]``: one thing a provider can be asked to do."""

    title: str = Field(description="what it does, for people")
    values: dict[str, ValueFile] = Field({}, description="what fills the placeholders")
    idempotent: bool = Field(default=False, description="a second call does no harm")
    on_unknown: Literal["check", "resend", "person"] | None = Field(
        None,
        description="when bytes may have arrived and no answer came: check if there is one, "
        "else resend if idempotent, else a person decides",
    )
    check_first: bool = Field(default=False, description="look before the first call, too")
    outcomes: list[OutcomeFile] = Field([], description="what its answers mean; the first that fits")
    check: CheckFile | None = Field(None, description="how to look at the resource")
    keep: str = Field("", description="where the answer says the id to go on with: the call's alias")
    example: list[ExampleFile] = Field([], description="samples that the tests run")


class ProviderFile(Strict):
    """``providers/NAME.toml``: a service that can be asked to try again."""

    title: str = Field(description="its name, for people")
    docs: str = Field(_PROVIDER["docs"], description="where its documentation is")
    base_url: str = Field(description="https://host, and a path if all requests share one")
    allow_http: bool = Field(default=False, description="base_url may be http://")
    auth: Annotated[
        str | OneHeader, PlainValidator(_either(OneHeader), json_schema_input_type=str | OneHeader)
    ] = Field("", description="a name of [auths.NAME], or { header, value }")
    auths: dict[str, AuthFile] = Field({}, description="the ways to say who is calling")
    limit: LimitFile = Field(LimitFile(), description="how often it may be called")
    timeouts: TimeoutsFile = Field(TimeoutsFile(), description="how long a call may take")
    tries: int = Field(_PROVIDER["tries"], ge=1, le=100, description="sends of one call before it is dead")
    outcomes: list[OutcomeFile] = Field([], description="what answers mean, after the action's own outcomes")
    action: dict[str, ActionFile] = Field({}, description="what it can be asked to do")


class SettingsFile(Strict, extra="allow"):
    """``[provider.NAME]``: the secrets the provider asks for, and what to do otherwise than its file says."""

    __pydantic_extra__: dict[str, str]

    base_url: str = Field("", description="another host")
    allow_http: bool = Field(default=False, description="base_url may be http://")
    auth: str = Field("", description="one of the provider's auths")
    limit: LimitFile = Field(LimitFile(), description="another limit")
    timeouts: TimeoutsFile = Field(TimeoutsFile(), description="other timeouts")
    tries: int = Field(_PROVIDER["tries"], ge=1, le=100, description="sends of one call before it is dead")
    files: str = Field("", description="the folder that uploads come from, beside the rules file")


# -- rules --


class RuleTestFile(Strict):
    """``[[rule.test]]``: run by ``relay check``."""

    event: Any = Field(description="an event's body")
    calls: int = Field(ge=0, description="how many calls the rule makes of it")


class RuleFile(Strict):
    """``[[rule]]``: when an event meets this, make that call."""

    name: str = Field(min_length=1, description="its name, once in the file")
    from_: Texts = Field(alias="from", description="a source, or a list of sources")
    when: Table = Field(description="a pattern over the event's body")
    call: str = Field(description="provider.action")
    with_: Table = Field({}, alias="with", description="the action's values, as templates over the event")
    case: str = Field("", description="a template for the key of what failed; else provider and values")
    test: list[RuleTestFile] = Field([], description="events, and how many calls each makes")


class RulesFile(Strict):
    """``rules.toml``."""

    source: dict[str, SourceFile] = Field({}, description="who may post")
    provider: dict[str, SettingsFile] = Field({}, description="who is called")
    rule: list[RuleFile] = Field([], description="when to call whom")
