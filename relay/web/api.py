"""What can an admin ask and do over HTTP?  ``/api/v1/``, with the admin's token."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Final, TypeAlias

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay import report
from relay.body import Unparsable, parse
from relay.case import Act, Stand
from relay.clock import now_ms
from relay.condition import near
from relay.engine import Row
from relay.errors import Rejected
from relay.event import CONTROL, Event, Json, Millis, as_name
from relay.explain import explain as explained
from relay.keep import Keeper
from relay.log import scrub
from relay.plan import source_of
from relay.public import case_shown, explanation_shown, moment_shown, no_case, stored_shown
from relay.replay import again, tried
from relay.rule import Ruleset
from relay.schema.units import duration
from relay.secret import Secret
from relay.store import Store
from relay.web.problem import problem

log = structlog.get_logger()

MOST: Final = 4096
"""Bytes of a body."""

LONGEST: Final[Mapping[str, int]] = {"by": 100, "why": 500, "for": 40, "until": 40}
"""What a body may say, and in how many characters."""

LONGEST_SNOOZE_MS: Final = 366 * 86_400_000

SNOOZES: Final = frozenset({"for", "until"})
"""What only a snooze has a use for."""

PAGES: Final = frozenset({"limit", "before", "state", "provider", "rule"})
MOST_CASES: Final = 1000
ENOUGH: Final = 200
"""Cases among which one of nearly that name is looked for."""

MOST_EVENT: Final = 2 << 20
"""Bytes of a body with an event in it."""

MOST_HEADERS: Final = 100

ASKED: Final = frozenset({"source", "event", "headers"})
"""What is said of an event that is to be explained."""

Answer: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants of a case."""

    by: str
    why: str
    until: Millis | None


def admin(answer: Answer) -> Answer:
    """Let nobody ask without the admin's token."""

    @wraps(answer)
    async def asked(request: Request) -> Response:
        token: Secret = request.app.state.admin
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        # As bytes: a comparison of texts refuses what is not ASCII.
        right = hmac.compare_digest(shown.strip().encode(), token.reveal().encode())
        if scheme.lower() != "bearer" or not right:
            why = "wrong token" if shown else "no token"
            log.warning("admin.refused", path=as_name(request.url.path), why=why)
            detail = f"{why}: it wants Authorization: Bearer with the admin's token"
            return problem(401, "Not allowed", detail, {"WWW-Authenticate": 'Bearer realm="relay"'})
        return await answer(request)

    return asked


@admin
async def cases(request: Request) -> Response:
    """List cases, newest first: ``{"items": [...], "next": ...}``."""
    asked = request.query_params
    for name in asked:
        if name not in PAGES or len(asked.getlist(name)) > 1:
            raise Rejected(400, "Unknown parameter", _wrong(name, PAGES))
    state = asked.get("state")
    if state is not None and state not in set(Stand):
        raise Rejected(400, "Unknown state", _wrong(state, list(Stand)))
    limit = asked.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_CASES):
        raise Rejected(400, "Wrong limit", f"expected a number from 1 to {MOST_CASES}, got {limit}")
    most = int(limit)
    keep: Keeper = request.app.state.keep
    found = await keep(
        Store.cases,
        limit=most,
        before=asked.get("before"),
        state=state,
        provider=asked.get("provider"),
        rule=asked.get("rule"),
    )
    now = now_ms()
    items = [case_shown(one.case, one.call, now) for one in found]
    return _told({"items": items, "next": items[-1]["id"] if len(items) == most else None})


@admin
async def case(request: Request) -> Response:
    """Show one case with its timeline: by its id, or the newest of a key or an alias."""
    keep: Keeper = request.app.state.keep
    found = await keep(Store.case, request.path_params["case"])
    if not found:
        raise await _none(keep, request.path_params["case"])
    timeline = await keep(Store.timeline, found[0].case.id)
    shown = case_shown(found[0].case, found[0].call, now_ms())
    return _told(shown | {"timeline": [moment_shown(moment) for moment in timeline]})


@admin
async def act(request: Request) -> Response:
    """Do what a person wants with a case; tell what was done, and how the case stands then."""
    name, wanted = request.path_params["case"], request.path_params["act"]
    if wanted not in set(Act):
        raise Rejected(404, "No such act", _wrong(wanted, list(Act)))
    keep: Keeper = request.app.state.keep
    now = now_ms()
    wish = _wish(await _body(request), Act(wanted), now)
    try:
        move = await keep(Store.act, name, Act(wanted), by=wish.by, why=wish.why, now=now, until=wish.until)
    except Rejected as error:
        raise (await _none(keep, name) if error.status == 404 else error) from None
    request.app.state.wake()
    report.moves([move])
    shown = (await keep(Store.case, move.case.id))[0]
    done = {"act": wanted, "by": wish.by, "what": move.moment.what, "kind": move.moment.kind}
    return _told({"case": case_shown(shown.case, shown.call, now), "done": done})


@admin
async def explain(request: Request) -> Response:
    """Say what the rules in force make of an event that is shown, rule by rule; nothing comes of it."""
    rules = request.app.state.in_force.rules
    made = _shown_event(await _body(request, MOST_EVENT), rules, now_ms())
    return _told(await asyncio.to_thread(_explained, made, rules))


@admin
async def explain_stored(request: Request) -> Response:
    """Say the same of an event that has come, and what was decided then, if that differs."""
    asked = request.query_params
    for name in asked:
        if name != "event" or len(asked.getlist(name)) > 1:
            raise Rejected(400, "Unknown parameter", _wrong(name, ["event"]))
    if not asked.get("event"):
        raise Rejected(400, "Which event?", "expected ?event=ID")
    keep: Keeper = request.app.state.keep
    rows = await keep(Store.events, id=asked["event"])
    if not rows:
        raise Rejected(404, "No such event", f"there is no event {as_name(asked['event'])}")
    return _told(await asyncio.to_thread(_explained_row, rows[0], request.app.state.in_force.rules))


def _explained(event: Event, rules: Ruleset) -> dict[str, Any]:
    return explanation_shown(explained(event, rules, event.received_at))


def _explained_row(row: Row, rules: Ruleset) -> dict[str, Any]:
    return stored_shown(row, explained(again(row, rules), rules, row["received_at"]))


def _shown_event(body: Json, rules: Ruleset, now: Millis) -> Event:
    """Make an event of what is shown. Raises Rejected: 400, 404."""
    if not isinstance(body, dict):
        raise Rejected(400, "Not understood", "expected a JSON object")
    for name in body:
        if name not in ASKED:
            raise Rejected(400, "Not understood", _wrong(name, ASKED))
    named, headers = body.get("source"), body.get("headers", {})
    if not isinstance(named, str) or "event" not in body:
        raise Rejected(400, "Not understood", 'expected "source", a name, and "event", what it posts')
    if not isinstance(headers, dict) or len(headers) > MOST_HEADERS:
        raise Rejected(400, "Not understood", f"expected at most {MOST_HEADERS} headers, as an object")
    texts = {name: value for name, value in headers.items() if isinstance(value, str)}
    if len(texts) < len(headers):
        wrong = next(name for name in headers if name not in texts)
        raise Rejected(400, "Not understood", f"expected the header {as_name(wrong)} to be text")
    source = source_of(rules, named)
    if source is None:
        hint = near(named, {**rules.sources, **rules.watched})
        raise Rejected(
            404, "No such source", f"there is no source {as_name(named)}" + (f" ({hint})" if hint else "")
        )
    return tried(rules, source, texts, orjson.dumps(body["event"]), now)


async def _none(keep: Keeper, name: str) -> Rejected:
    """Say that there is no such case, and which one may be meant."""
    known = await keep(Store.cases, limit=ENOUGH)
    return Rejected(404, "No such case", no_case(as_name(name), (one.case for one in known)))


def _wrong(word: str, known: Any) -> str:
    hint = near(word, known)
    return f"{as_name(word)} is not known or stands twice" + (f" ({hint})" if hint else "")


async def _body(request: Request, most: int = MOST) -> Json:
    """Read the JSON of a body; none is as good as an empty one. Raises Rejected: 400, 413, 415."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise Rejected(415, "Content-Encoding not supported", "send the body as it is")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Rejected(413, "Body too large", f"at most {most} bytes")
    if not body.strip():
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Rejected(415, "Content-Type not supported", "expected application/json")
    try:
        return parse(body)
    except Unparsable as error:
        raise Rejected(400, "Not readable", str(error)) from None


def _wish(body: Json, act: Act, now: Millis) -> Wish:
    """Read what is wanted, and by whom. Raises Rejected (400)."""
    if not isinstance(body, dict):
        raise Rejected(400, "Not understood", "expected a JSON object")
    for name, value in body.items():
        if name not in LONGEST:
            raise Rejected(400, "Not understood", _wrong(name, LONGEST))
        if not isinstance(value, str) or len(value) > LONGEST[name] or CONTROL.search(value):
            what = f"expected {name} to be one line of text, {LONGEST[name]} characters at most"
            raise Rejected(400, "Not understood", what)
    times = sorted(SNOOZES & body.keys())
    if act is Act.SNOOZE and len(times) != 1:
        raise Rejected(400, "Snooze until when?", 'expected either "for", as in "2h", or "until"')
    if act is not Act.SNOOZE and times:
        raise Rejected(400, "Not understood", f"{act} has no use for {times[0]}")
    # Who pastes a secret here does not want it kept.
    words = {name: scrub.text(str(body.get(name, "")).strip()) for name in ("by", "why")}
    return Wish(by=words["by"] or "api", why=words["why"], until=_until(body, now))


def _until(body: Mapping[str, Json], now: Millis) -> Millis | None:
    """Read when a snooze ends."""
    if not SNOOZES & body.keys():
        return None
    until = _instant(body["until"]) if "until" in body else _sum(now, body["for"])
    if until is None:
        what = 'expected "for" as in "2h", or "until" as in "2026-11-22T08:00:00Z"'
        raise Rejected(400, "Snooze until when?", what)
    if until > now + LONGEST_SNOOZE_MS:
        raise Rejected(400, "Snooze until when?", "expected a time within a year")
    return until


def _sum(now: Millis, text: Json) -> Millis | None:
    try:
        return now + duration(text)
    except ValueError:
        return None


def _instant(text: Json) -> Millis | None:
    """Read an instant; one that does not say its time zone is none."""
    try:
        at = datetime.fromisoformat(str(text))
        return None if at.tzinfo is None else round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _told(data: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(data), media_type="application/json", headers={"Cache-Control": "no-store"})


# A key may have a slash in it, so the case takes all that is left of the path.
ROUTES = [
    Route("/api/v1/explain", explain_stored, methods=["GET"]),
    Route("/api/v1/explain", explain, methods=["POST"]),
    Route("/api/v1/cases", cases, methods=["GET"]),
    Route("/api/v1/cases/{case:path}/{act}", act, methods=["POST"]),
    Route("/api/v1/cases/{case:path}", case, methods=["GET"]),
]
