"""What may stand in ``rules.toml``?"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from relay.case import Policy
from relay.schema.providers import SettingsFile
from relay.schema.sources import SourceFile
from relay.schema.units import (
    Duration,
    Instant,
    Names,
    Strict,
    Table,
    Texts,
    Told,
    between,
    counted,
    defaults,
    either,
    said,
    waits,
)

_POLICY: Final = defaults(Policy)


class WantedCallFile(Strict):
    """A call that a test expects; what it does not say is not compared."""

    call: str = Field("", description="provider.action")
    with_: Table = Field({}, alias="with", description="the action's values, all of them")
    case: str = Field("", description="the key of its case")
    request: str = Field("", description='method and path, or method and URL: "POST /v1/files/retry"')
    body: Any = Field(None, description="what is sent; a form's files as @name")
    first: Literal["look", "send"] | None = Field(None, description="look: the resource is looked at first")


class WantsFile(Strict):
    """What tests of rules have in common: how an event comes, and what is expected."""

    source: str = Field("", description="the source that it comes from; else the rule's first")
    headers: dict[str, str] = Field({}, description="its headers")
    type: str | None = Field(None, description="its type; else as the source finds it")
    verified: Literal["verified", "authenticated", "unattempted"] | None = Field(
        None, description="how far its sender is known; else as the source wants it"
    )
    age: Duration | None = Field(None, description="how long ago it happened; else it has happened just now")
    now: Instant | None = Field(None, description="when it comes, if patterns ask for the time")
    calls: Annotated[int | list[WantedCallFile] | None, counted(WantedCallFile)] = Field(
        None, description="how many calls it makes, at once or when a window lets it; or a list of them"
    )
    case: str | None = Field(None, description="the key of the case that it is for")
    recovers: Names | None = Field(None, description="the key of what is well by it, or several; [] for none")
    ignored: Told | None = Field(None, description="true, or the reason")
    person: Told | None = Field(None, description="true, or why a person must look")
    told: Told | None = Field(None, description="true, or what is said by `say`")
    window: Literal["once_within", "once_after", "accumulate_within", "expect"] | None = Field(
        None, description="the window that it waits in"
    )


class RuleTestFile(WantsFile):
    """``[[rule.test]]``: an event for this rule alone; run by ``relay check``."""

    event: Any = Field(description="its body")
    meets: bool | None = Field(None, description="whether it meets when")


class EventFile(WantsFile):
    """A file of ``relay check --tests DIR``, or one ``[[event]]`` of it: an event for all rules."""

    name: str = Field("", description="what it is an example of")
    source: str = Field(min_length=1, description="the source that it comes from")
    body: Any = Field(None, description="its body…")
    file: str = Field("", description="…or the name of a file beside this one that has it")
    rules: Names | None = Field(None, description="the rules that have a part in it; [] for none")


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


class CallFile(Strict):
    """One of a rule's ``calls``."""

    call: str = Field(description="provider.action")
    with_: Table = Field({}, alias="with", description="the action's values, as templates over the event")
    case: str = Field("", description="a template for the key of what failed; else provider and values")


class ThrottleFile(Strict):
    """How many of the events that a rule meets make it act: one of the three windows, and a key."""

    once_within: Annotated[int, between("100ms", "30d")] | None = Field(
        None, description="the first acts, and opens a window so long: the rest of it is passed over"
    )
    once_after: Annotated[int, between("100ms", "30d")] | None = Field(
        None, description="the first opens a window so long; at its end the rule acts once, for all of it"
    )
    accumulate_within: Annotated[int, between("100ms", "30d")] | None = Field(
        None, description="the first opens a window so long; the rule acts once threshold events are in it"
    )
    threshold: int | None = Field(None, ge=2, le=100_000, description="for accumulate_within: so many events")
    by: str = Field(
        "", description="a template: events of one key share a window; with once_after, they count once"
    )


class ExpectFile(Strict):
    """What has to follow the event, or else the rule acts."""

    when: Table = Field(description="a pattern over the event that is expected")
    within: Annotated[int, between("100ms", "30d")] = Field(description="how long it is waited for")
    by: str = Field(min_length=1, description="a template over the event that the rule meets…")
    seen_by: str = Field("", description="…and over the expected one: of the same key, they belong together")


class RuleFile(Strict):
    """``[[rule]]``: what to do about an event that meets this; a call, or one of the other ends."""

    name: str = Field(min_length=1, description="its name, once in the file")
    from_: Texts = Field(alias="from", description="a source, or a list of sources")
    when: Table = Field(description="a pattern over the event's body")
    call: str = Field("", description="provider.action")
    with_: Table = Field({}, alias="with", description="the action's values, as templates over the event")
    case: str = Field("", description="a template for the key of what failed; else provider and values")
    calls: list[CallFile] = Field([], description="several calls, each with its own call, with and case")
    ignore: str = Field("", description="no call, and why not; rules further down are not asked")
    person: str = Field("", description="a template: why a person must look; a call is made when they say so")
    tell: Literal["", "log"] = Field("", description="who is told: log, a line in the log")
    say: str = Field("", description="a template: what they are told")
    stop: bool = Field(
        default=False, description="rules further down are not asked about what this one meets"
    )
    mode: Literal["live", "shadow"] = Field(
        "live", description="shadow: what it would do is kept with the event, and not done"
    )
    delay: Duration | None = Field(None, description="how long the first retry waits; short for budget.wait")
    priority: Literal["high", "normal", "low"] = Field(
        "normal", description="which of a provider's due calls goes first"
    )
    max_age: Annotated[int, between("1s")] | None = Field(
        None, description="an event that happened longer ago is reported, not acted on; the source says time"
    )
    throttle: ThrottleFile | None = Field(None, description="how many of the events make it act")
    expect: ExpectFile | None = Field(None, description="act only if this does not follow in time")
    recovered: Table | None = Field(
        None, description="a pattern over an event's body: it is well; else what the source's preset says"
    )
    recover_within: Annotated[int, between("100ms")] | None = Field(
        None,
        description="how long an accepted retry may take before a person is asked; "
        f"else as the action's check says, else {said(_POLICY['recover_ms'])}",
    )
    budget: BudgetFile | None = Field(None, description="how often it may be retried")
    approve: Annotated[bool | ApproveFile, either(bool, "true, false", ApproveFile)] = Field(
        default=False, description="true: each retry waits for a person's yes; or { when, within, then }"
    )
    only: str = Field(
        _POLICY["only"], description='when retries may go out: "Mon-Fri 08:00-18:00 Europe/Berlin"'
    )
    batch: BatchFile | None = Field(None, description="retries that are due together share one request")
    test: list[RuleTestFile] = Field([], description="events, and what comes of each")


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
