"""What may stand in a provider's file, and in ``[provider.NAME]``?"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from relay.provider import Check, Limit, Listing, Paging, Provider, Storm, Timeouts, Value
from relay.schema.units import (
    Duration,
    Patterns,
    Rate,
    Scalar,
    Seconds,
    Strict,
    Table,
    between,
    defaults,
    either,
    said,
    waits,
)

_CHECK: Final = defaults(Check)
_LIMIT: Final = defaults(Limit)
_LISTING: Final = defaults(Listing)
_PAGING: Final = defaults(Paging)
_PROVIDER: Final = defaults(Provider)
_STORM: Final = defaults(Storm)
_TIMEOUTS: Final = defaults(Timeouts)
_VALUE: Final = defaults(Value)


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
    after: Duration = Field("0s", validate_default=True, description="retry no sooner than this")


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


Part: TypeAlias = Annotated[str | MultipartFile, either(str, "text", MultipartFile)]


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
    mark: str = Field(
        _CHECK["mark"], description="where the body says what changes with each run: data.updatedAt"
    )
    wait: Annotated[list[int], waits("100ms")] = Field(
        [said(one) for one in _CHECK["wait_ms"]],
        validate_default=True,
        description="before the first, second, … look after an accepted retry; the last stays",
    )
    within: Annotated[int, between("100ms")] = Field(
        said(_CHECK["within_ms"]),
        validate_default=True,
        description="how long an accepted retry may take before a person is asked",
    )


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
    on_unknown: Literal["check", "resend_same_key", "resend", "person"] | None = Field(
        None,
        description="when bytes may have arrived and no answer came: check if there is one, "
        "else resend if idempotent, else a person decides",
    )
    check_first: bool = Field(default=False, description="look before the first call, too")
    outcomes: list[OutcomeFile] = Field([], description="what its answers mean; the first that fits")
    check: CheckFile | None = Field(None, description="how to look at the resource")
    keep: dict[str, str] = Field(
        {}, description='the value that gets a new id, and where the body says it: { job_id = "data.id" }'
    )
    example: list[ExampleFile] = Field([], description="samples that the tests run")


class PageFile(Strict):
    """How a list goes on."""

    query: str = Field(min_length=1, description="the parameter that says where to go on")
    cursor: str = Field(
        _PAGING["cursor"],
        description="where the body says it: last_id; without it, pages are numbered from 1",
    )
    more: Table | None = Field(
        None, description="a pattern over status, headers and body: there is more; else until a page is empty"
    )


class ListingFile(Strict):
    """``[watch.NAME]``: a list of what failed, which a watch asks for again and again."""

    title: str = Field(description="what it lists, for people")
    request: str = Field(description='"GET /path/{value}"')
    query: dict[str, Scalar] = Field({}, description="query templates; {since} is where a log is read from")
    headers: dict[str, str] = Field({}, description="header templates")
    values: dict[str, ValueFile] = Field({}, description="what fills the placeholders")
    items: str = Field(
        description='where the body has them: result.files; through lists, too; "": the body itself is one'
    )
    id: str = Field(description="a template over an item: what makes it the same one as before")
    failed: Table | None = Field(None, description="a pattern over an item: those that count; else all")
    event: Any = Field(
        _LISTING["event"], description="the event's body, as templates over an item; else the item itself"
    )
    log: bool = Field(
        default=_LISTING["log"],
        description="an item is an event that stays; else it is in the list while it is failing",
    )
    page: PageFile | None = Field(None, description="how the list goes on; else it is one page")


class StormFile(Strict):
    """When failures of a provider are a storm: one is tried first, the others wait."""

    cases: int = Field(_STORM["cases"], ge=0, description="more cases than these open…; 0: never")
    within: Annotated[int, between("1s", "1d")] = Field(
        said(_STORM["within_ms"]), validate_default=True, description="…in so long"
    )
    rest: Annotated[int, between("1s", "15m")] = Field(
        said(_STORM["rest_ms"]),
        validate_default=True,
        description="how long nothing is tried after a retry that did not help; doubles each time, up to 15m",
    )


NETWORKS: Final = "networks that its host may be in, besides public ones: 10.1.0.0/16"


class ProviderFile(Strict):
    """``providers/NAME.toml``: a service that can be asked to try again."""

    title: str = Field(description="its name, for people")
    docs: str = Field(_PROVIDER["docs"], description="where its documentation is")
    base_url: str = Field(description="https://host, and a path if all requests share one")
    allow_http: bool = Field(default=False, description="base_url may be http://")
    allow_networks: list[str] = Field([], description=NETWORKS)
    auth: Annotated[str | OneHeader, either(str, "text", OneHeader)] = Field(
        "", description="a name of [auths.NAME], or { header, value }"
    )
    auths: dict[str, AuthFile] = Field({}, description="the ways to say who is calling")
    limit: LimitFile = Field(LimitFile(), description="how often it may be called")
    timeouts: TimeoutsFile = Field(TimeoutsFile(), description="how long a call may take")
    tries: int = Field(_PROVIDER["tries"], ge=1, le=100, description="sends of one call before it is dead")
    outcomes: list[OutcomeFile] = Field([], description="what answers mean, after the action's own outcomes")
    action: dict[str, ActionFile] = Field({}, description="what it can be asked to do")
    watch: dict[str, ListingFile] = Field({}, description="what it can be asked for again and again")
    storm: StormFile = Field(StormFile(), description="how many failures are a storm")


class SettingsFile(Strict, extra="allow"):
    """``[provider.NAME]``: the secrets the provider asks for, and what to do otherwise than its file says."""

    __pydantic_extra__: dict[str, str]

    base_url: str = Field("", description="another host")
    allow_http: bool = Field(default=False, description="base_url may be http://")
    allow_networks: list[str] = Field([], description=NETWORKS)
    auth: str = Field("", description="one of the provider's auths")
    limit: LimitFile = Field(LimitFile(), description="another limit")
    timeouts: TimeoutsFile = Field(TimeoutsFile(), description="other timeouts")
    tries: int = Field(_PROVIDER["tries"], ge=1, le=100, description="sends of one call before it is dead")
    files: str = Field("", description="the folder that uploads come from, beside the rules file")
    storm: StormFile = Field(StormFile(), description="another storm")
