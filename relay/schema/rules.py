"""What may stand in ``rules.toml``, and in a source's preset?"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from relay.case import Policy
from relay.rule import Source
from relay.schema.providers import SettingsFile
from relay.schema.units import Duration, Strict, Table, Texts, between, defaults, either, said, waits

_POLICY: Final = defaults(Policy)
_SOURCE: Final = defaults(Source)


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
    dedupe: Duration = Field(
        said(_SOURCE["dedupe_ms"]),
        validate_default=True,
        description="how long a delivery is known as a duplicate",
    )
    recovered: Table | None = Field(
        None, description="a pattern over the body of an event that says: it is well"
    )


class SourceFile(PresetFile):
    """``[source.NAME]``: who may post to /hooks/NAME."""

    preset: str = Field("", description="a file of sources/ that fills in the rest")
    secrets: Texts = Field([], description="env:NAME or file:/path; several while one replaces another")
    i_know_this_is_unauthenticated: Literal[True] | None = Field(
        None, description='must be true with verify = "none": anyone can post events here'
    )


class RuleTestFile(Strict):
    """``[[rule.test]]``: run by ``relay check``."""

    event: Any = Field(description="an event's body")
    calls: int = Field(ge=0, description="how many calls the rule makes of it")


class BudgetFile(Strict):
    """How often a provider may be made to do it again."""

    retries: int = Field(_POLICY["retries"], ge=1, le=100, description="so many retries of one resource…")
    within: Annotated[int, between("1m")] = Field(
        said(_POLICY["within_ms"]), validate_default=True, description="…in so long"
    )
    wait: Annotated[list[int], waits("0s")] = Field(
        [said(one) for one in _POLICY["wait_ms"]],
        validate_default=True,
        description="before the first, second, … retry; the last stays",
    )


class ApproveFile(Strict):
    """Which retries wait for a person's yes, and for how long."""

    when: Table | None = Field(None, description="a pattern over the event's body: only these; else all")
    within: Annotated[int, between("1m")] = Field(
        said(_POLICY["approve_ms"]), validate_default=True, description="how long they wait…"
    )
    then: Literal["ask", "approve", "reject"] = Field(
        _POLICY["approve_then"], description="…and then; ask: the case needs a person"
    )


class BatchFile(Strict):
    """Which retries share one request."""

    field: str = Field(min_length=1, description="the list in the action's json that they are joined in")
    max: int = Field(ge=2, le=1000, description="how many share one request at most")
    wait: Annotated[int, between("0s", "1h")] = Field(
        said(_POLICY["batch_ms"]), validate_default=True, description="how long the first waits for company"
    )


class RuleFile(Strict):
    """``[[rule]]``: when an event meets this, make that call."""

    name: str = Field(min_length=1, description="its name, once in the file")
    from_: Texts = Field(alias="from", description="a source, or a list of sources")
    when: Table = Field(description="a pattern over the event's body")
    call: str = Field(description="provider.action")
    with_: Table = Field({}, alias="with", description="the action's values, as templates over the event")
    case: str = Field("", description="a template for the key of what failed; else provider and values")
    recovered: Table | None = Field(
        None, description="a pattern over an event's body: it is well; else what the source's preset says"
    )
    recover_within: Annotated[int, between("100ms")] | None = Field(
        None,
        description="how long an accepted retry may take before a person is asked; "
        f"else as the action's check says, else {said(_POLICY['recover_ms'])}",
    )
    budget: BudgetFile = Field(BudgetFile(), description="how often it may be retried")
    approve: Annotated[bool | ApproveFile, either(bool, "true, false", ApproveFile)] = Field(
        default=False, description="true: each retry waits for a person's yes; or { when, within, then }"
    )
    only: str = Field(
        _POLICY["only"], description='when retries may go out: "Mon-Fri 08:00-18:00 Europe/Berlin"'
    )
    batch: BatchFile | None = Field(None, description="retries that are due together share one request")
    test: list[RuleTestFile] = Field([], description="events, and how many calls each makes")


class WatchFile(Strict):
    """``[[watch]]``: a list that is asked for again and again; what is new in it becomes events."""

    name: str = Field(min_length=1, description="its name, once in the file")
    call: str = Field(description="provider.watch")
    every: Annotated[int, between("1s")] = Field(description="how often")
    with_: Table = Field({}, alias="with", description="the watch's values, as they are")
    source: str = Field("", description="the source that its events come from; else the provider's name")


class RulesFile(Strict):
    """``rules.toml``."""

    source: dict[str, SourceFile] = Field({}, description="who may post")
    provider: dict[str, SettingsFile] = Field({}, description="who is called")
    rule: list[RuleFile] = Field([], description="when to call whom")
    watch: list[WatchFile] = Field([], description="what to ask for again and again")
