"""What would other rules have made of past events, their windows included?"""

import random
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build import NOW, event, pattern, rule, ruleset, source

from relay.body import parse
from relay.engine import SQLite
from relay.event import Does, Event, Json, Millis
from relay.plan import plan
from relay.replay import Comparison, Difference, again, differs, longest, quiet
from relay.rule import Expect, Ruleset, Throttle, Window
from relay.store import Store
from relay.window import outcome

S = 1_000


def came(number: int, at: Millis, data: Json, **more: Any) -> Event:
    """Return an event that came at that time, with an id as intake gives it."""
    return event(data, id=f"ev_{at:011x}{number:012x}", digest=f"{number:064}", received_at=at, **more)


def failed(number: int = 1, at: Millis = NOW, **more: Any) -> Event:
    """Return a job's failure."""
    return came(number, at, {"topic": "job:failed", "context": {"jobId": f"j{number}"}} | more)


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Open a database whose writes are one transaction."""
    with closing(SQLite(folder / "relay.db")) as engine, engine.group():
        yield Store(engine.link())


def keep(store: Store, rules: Ruleset, events: Iterable[Event], until: Millis) -> None:
    """Let these rules decide events as a relay does that is never late."""
    for one in events:
        _end(store, rules, one.received_at)
        store.record(one, plan(one, rules, one.received_at), version=rules.version, dedupe_ms=1)
    _end(store, rules, until)


def _end(store: Store, rules: Ruleset, until: Millis) -> None:
    """End windows one after the other, each at its time."""
    while (at := store.next_time()) is not None and at <= until:
        for span in store.end(at).spans:
            read = [replace(one, data=parse(one.body)) for one in store.collected(span)]
            store.close(span, outcome(span, rules, read, at)[1], at)


def compared(
    store: Store,
    new: Ruleset,
    old: Ruleset | None = None,
    *,
    since: Millis = NOW,
    until: Millis = NOW + 1000 * S,
    many: int = 100,
) -> Comparison:
    """Compare as the command does."""
    found = Comparison(new, old, since=since, many=many)
    early, _ = quiet(store.past_count, since, longest(new, old))
    for row in store.past(early, until):
        found.take(row)
    found.finish(until)
    return found


def written(one: Difference) -> list[str]:
    """Write a difference as people see it."""
    return [*(f"- {effect}" for effect in one.lost()), *(f"+ {effect}" for effect in one.gained())]


# -- the same rules --

WINDOWS: list[dict[str, Any]] = [
    {},
    {"throttle": Throttle(kind=Window.ONCE_WITHIN, ms=7 * S, by="{k}")},
    {"throttle": Throttle(kind=Window.ONCE_AFTER, ms=5 * S, by="{k}"), "with_": {"job_id": "{$count}"}},
    {"throttle": Throttle(kind=Window.ONCE_AFTER, ms=5 * S)},
    {"throttle": Throttle(kind=Window.ACCUMULATE_WITHIN, ms=9 * S, by="{k}", threshold=3)},
    {"throttle": Throttle(kind=Window.ACCUMULATE_WITHIN, ms=9 * S, threshold=1)},
    {"expect": Expect(when=pattern({"topic": "well"}), ms=4 * S, by="{k}", seen_by="{k}")},
    {"expect": Expect(when=pattern({"topic": "job:failed"}), ms=6 * S, by="{k}", seen_by="{k}")},
    {"ignore": "known", "aims": (), "when": pattern({"k": 3})},
    {"shadow": True},
    {"tell": "ops", "say": "{k}"},
    {"recovered": pattern({"topic": "well"})},
    {"max_age_ms": S},
]


def random_rules(luck: random.Random) -> Ruleset:
    """Return rules of all kinds, those with windows among them."""
    several = []
    for number in range(luck.randint(1, 7)):
        given = {"when": pattern({"topic": luck.choice(["job:failed", "well"])}), **luck.choice(WINDOWS)}
        several.append(rule(name=f"r{number}", **given))
    return ruleset(*several)


def random_events(luck: random.Random, number: int) -> list[Event]:
    """Return events of a few keys, seconds apart or none."""
    at, events = NOW, []
    for count in range(number):
        at += luck.choice([0, 300, S, 2 * S, 3 * S])
        topic, key = luck.choice(["job:failed", "well", "x"]), luck.randint(1, 3)
        data: Json = {"topic": topic, "k": key, "context": {"jobId": f"j{key}"}}
        events.append(came(count, at, data, happened_at=at - luck.choice([0, 5 * S])))
    return events


@pytest.mark.parametrize("seed", range(40))
def test_the_rules_that_decided_decide_the_same(tmp_path: Path, seed: int) -> None:
    """Whatever windows they have: what is replayed is what the store keeps."""
    luck = random.Random(seed)
    rules, until = random_rules(luck), NOW + 1000 * S
    with opened(tmp_path) as store:
        keep(store, rules, random_events(luck, 60), until)
        found = compared(store, rules)
        both = compared(store, rules, rules)

    assert [] == [(one.old.parts, one.new.parts) for one in found.differences]
    assert (60, 0, 0) == (found.tally.same, found.tally.different, found.tally.unsure)
    assert found.tally == both.tally


# -- other rules --


def test_what_each_event_loses_and_gains(tmp_path: Path) -> None:
    """By rule, call and resource; an event that has both is counted for both."""
    old = ruleset(rule(), rule(name="space", when=pattern({"size": 9})))
    new = ruleset(rule(when=pattern({"size": 9})), rule(name="told", aims=(), tell="ops", say="x"))
    with opened(tmp_path) as store:
        keep(store, old, [failed(1), failed(2, NOW + S, size=9)], NOW)
        found = compared(store, new)

    call = "call flatfile.retry flatfile:job_id"
    assert [
        [f"- retry jobs: {call}=j1", "+ told: tell ops"],
        [f"- space: {call}=j2", "+ told: tell ops"],
    ] == [written(one) for one in found.differences]
    tally = found.tally
    assert (2, 0, 2, 0, 1) == (tally.events, tally.same, tally.different, tally.get, tally.lose)
    assert {"retry jobs": 1, "space": 1} == tally.lost
    assert {"told": 2} == tally.gained


def test_a_call_that_can_not_be_sent_is_none(tmp_path: Path) -> None:
    """A rule that names the wrong value loses its calls, though it asks for them."""
    with opened(tmp_path) as store:
        keep(store, ruleset(), [failed()], NOW)
        found = compared(
            store, ruleset(rule(with_={"job_id": "{id}"}, case="flatfile:job_id={context.jobId}"))
        )

    (one,) = found.differences
    key = "retry jobs: call flatfile.retry flatfile:job_id=j1"
    assert [f"- {key}", f"+ {key} (can't be sent)"] == written(one)
    assert (0, 1) == (found.tally.get, found.tally.lose)


def test_a_file_of_rules_can_be_compared_with_another(tmp_path: Path) -> None:
    """Then nothing matters of what was decided when the events came."""
    with opened(tmp_path) as store:
        keep(store, ruleset(rule(name="long gone")), [failed()], NOW)
        same = compared(store, ruleset(), ruleset())
        other = compared(store, ruleset(), ruleset(rule(name="old")))

    assert (1, 0) == (same.tally.same, same.tally.different)
    assert ["- old", "+ retry jobs"] == [line.partition(":")[0] for line in written(other.differences[0])]
    assert (0, 0) == (other.tally.get, other.tally.lose)


def test_only_so_many_are_held(tmp_path: Path) -> None:
    """The first of them, though a window makes one late; all are counted."""
    wait = rule(throttle=Throttle(kind=Window.ONCE_AFTER, ms=100 * S, by="{context.jobId}"))
    with opened(tmp_path) as store:
        keep(
            store,
            ruleset(rule(name="no", when=pattern({"x": 1}))),
            [failed(n, NOW + n) for n in range(50)],
            NOW,
        )
        found = compared(store, ruleset(wait), many=3)

    assert [f"{n:012x}" for n in range(3)] == [one.old.event[-12:] for one in found.differences]
    assert 50 == found.tally.different
    assert (Does.WAIT, Does.CALL) == tuple(part.does for part in found.differences[0].new.parts)


# -- windows at the edges --

THROTTLED = ruleset(rule(throttle=Throttle(kind=Window.ONCE_WITHIN, ms=60 * S)))


def test_windows_that_were_open_at_the_beginning_are_known(tmp_path: Path) -> None:
    """Else the first event of each period would look as if it had acted."""
    with opened(tmp_path) as store:
        keep(store, THROTTLED, [failed(1, NOW - 30 * S), failed(2, NOW)], NOW)
        found = compared(store, THROTTLED)

    assert (1, 1) == (found.tally.events, found.tally.same)


@pytest.mark.parametrize("start", range(0, 40, 3))
def test_windows_that_follow_one_another_stand_as_they_stood(tmp_path: Path, start: int) -> None:
    """Wherever the comparison begins in a busy time."""
    kinds = [one for one in WINDOWS if "throttle" in one]
    busy = ruleset(*(rule(name=f"r{number}", **one) for number, one in enumerate(kinds)))
    with opened(tmp_path) as store:
        events = [
            came(n, NOW + n * S, {"topic": "job:failed", "k": 1, "context": {"jobId": "j1"}})
            for n in range(40)
        ]
        keep(store, busy, events, NOW + 1000 * S)
        found = compared(store, busy, since=NOW + start * S)

    assert (0, 40 - start) == (found.tally.different, found.tally.same)


def test_a_time_that_is_never_quiet_is_told() -> None:
    """Windows may have begun elsewhere then."""
    assert (NOW - 5, True) == quiet(lambda _since, _until: 0, NOW, 5)
    assert not quiet(lambda _since, _until: 1, NOW, 5)[1]
    assert (NOW, True) == quiet(lambda _since, _until: 1, NOW, 0)


def test_what_a_window_has_not_decided_is_not_compared(tmp_path: Path) -> None:
    """It is counted as such: it may still act."""
    rules = ruleset(rule(throttle=Throttle(kind=Window.ONCE_AFTER, ms=60 * S)))
    with opened(tmp_path) as store:
        keep(store, ruleset(), [failed()], NOW)
        early = compared(store, rules, until=NOW + 59 * S)
        late = compared(store, rules, until=NOW + 60 * S)

    assert (1, 1, 0) == (early.tally.events, early.tally.unsure, early.tally.different)
    assert (1, 0, 1) == (late.tally.events, late.tally.unsure, late.tally.different)


# -- stored events --


def test_an_event_whose_parts_were_not_kept_is_counted_apart(tmp_path: Path) -> None:
    """An earlier relay kept its calls alone: nothing is said of what would differ."""
    with opened(tmp_path) as store:
        keep(store, ruleset(), [failed(), came(2, NOW + 1, {"topic": "x"})], NOW)
        rows = [row | {"parts": []} for row in store.past(NOW, NOW + 9)]
        found = Comparison(ruleset(), None, since=NOW, many=9)
        for row in rows:
            found.take(row)
        found.finish(NOW + 9)

    assert (2, 1, 1) == (found.tally.events, found.tally.unknown, found.tally.same)
    assert not differs(rows[0], plan(failed(), ruleset(), NOW))
    assert differs(rows[1], plan(failed(), ruleset(), NOW))


def test_an_event_is_read_as_its_source_says_now(tmp_path: Path) -> None:
    """Rules may ask for a type that the source did not name then; its id and headers are as they were."""
    one = failed(1, headers=None)
    with opened(tmp_path) as store:
        keep(store, ruleset(), [replace(one, headers={"x-kept": "yes"}, delivery="d1")], NOW)
        (row,) = store.past(NOW, NOW + 1)
    typed = source(name="flatfile", verify="none", type=("body:topic",))
    read = again(row, replace(ruleset(), sources={"flatfile": typed}))
    gone = again(row, ruleset())

    assert ("job:failed", None) == (read.type, gone.type)
    for found in (read, gone):
        assert (one.id, "d1", one.data) == (found.id, found.delivery, found.data)
        assert {"x-kept": "yes"} == dict(found.headers)


def test_what_came_in_is_read_in_the_order_in_which_it_came(tmp_path: Path) -> None:
    """Page after page, from since on, before until, of one source if that is asked."""
    events = [failed(n, NOW + n // 2) for n in range(130)]
    with opened(tmp_path) as store:
        keep(store, ruleset(), [*events, came(999, NOW + 3, {}, source="writer")], NOW)
        asked = (NOW + 1, NOW + 60, "flatfile")
        found = [row["id"] for row in store.past(*asked)]

        assert [one.id for one in events[2:120]] == found
        assert len(found) == store.past_count(*asked)
        assert 1 == store.past_count(NOW, NOW + 60, "writer") == len([*store.past(0, NOW + 60, "writer")])


def test_a_rule_whose_window_decides_is_not_taken_for_another(tmp_path: Path) -> None:
    """One event alone does not tell what its windows say: it differs only if the rule had no part."""
    with opened(tmp_path) as store:
        keep(store, THROTTLED, [failed(1), failed(2, NOW + 1)], NOW)
        rows = [*store.past(NOW, NOW + 2)]

    assert [False, False] == [differs(row, plan(again(row, THROTTLED), THROTTLED, NOW)) for row in rows]
    other = ruleset(rule(name="new", throttle=Throttle(kind=Window.ONCE_WITHIN, ms=S)))
    assert [True, True] == [differs(row, plan(again(row, other), other, NOW)) for row in rows]
