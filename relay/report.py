"""What does the log say of cases and storms?  One wide line for each thing that became of one."""

from collections.abc import Iterable

import structlog

from relay.case import Move, Stand
from relay.clock import rfc3339
from relay.deed import Said
from relay.storm import Turn
from relay.window import Became, Change

log = structlog.get_logger()


def moves(moves: Iterable[Move]) -> None:
    """Say what became of each case: how a case ends first, then who acted, then where it stands now."""
    for move in moves:
        _tell(move)


def turns(turns: Iterable[Turn]) -> None:
    """Say once that a storm began or ended, and how many cases wait for its end."""
    for turn in turns:
        if turn.began:
            log.warning("storm.began", provider=turn.provider, waiting=turn.waiting, why=turn.why)
        else:
            log.info("storm.ended", provider=turn.provider, waiting=turn.waiting, why=turn.why)


def windows(changes: Iterable[Change]) -> None:
    """Say what happened to windows of rules."""
    for change in changes:
        span = change.span
        said: dict[str, object] = {
            "rule": span.rule,
            "key": span.key or None,
            "kind": span.kind.value,
            "events": span.events,
            "event_id": span.event,
            "until": rfc3339(span.ends_at),
            "why": change.why or None,
        }
        match change.became:
            case Became.OPENED:
                log.debug("window.opened", **said)
            case Became.ACTED:
                log.info("window.acted", **said)
            case Became.DISCARDED:
                log.info("window.discarded", **said)
            case Became.DROPPED:
                log.warning("window.dropped", **said)


def says(says: Iterable[Said], event: str) -> None:
    """Say what rules want people to know."""
    for said in says:
        log.warning("rule.told", rule=said.rule, channel=said.channel, text=said.text, event_id=event)


def _tell(move: Move) -> None:
    said = _said(move)
    moved = move.before is None or move.before.state is not move.case.state
    acted = move.moment.by is not None
    match move.case.state:
        case Stand.RECOVERED if moved:
            log.info("case.recovered", **said)
        case Stand.GAVE_UP if moved:
            log.error("case.gave_up", **said)
        case Stand.CLOSED if moved:
            log.info("case.closed", **said)
        case Stand.NEEDS_PERSON if moved:
            log.warning("case.needs_person", **said)
        case _ if acted:
            log.info("case.acted", **said)
        case _ if move.before is None:
            log.info("case.opened", **said)
        case _ if moved:
            log.info("case.moved", **said)
        case _:
            log.debug("case.joined", **said)


def _said(move: Move) -> dict[str, object]:
    """Return the fields of a line: *what* happened, if that is more than *why* the case stands there."""
    case, what = move.case, move.moment.what
    return {
        "case": case.id,
        "key": case.key,
        "provider": case.provider,
        "rule": case.rule,
        "state": case.state.value,
        "why": case.why,
        "what": None if what == case.why else what,
        "by": move.moment.by,
        "retries": case.retries,
        "attempts": move.tries or None,
        "aliases": list(case.aliases),
        "took_ms": None if case.ended_at is None else case.ended_at - case.opened_at,
        "event_id": case.event,
        "call": case.call,
    }
