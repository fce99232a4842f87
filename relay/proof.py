"""Which tests of the rules fail, and how does what came of their events differ from what was expected?"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff
from typing import Any, Final

import orjson

from relay.case import Failure
from relay.condition import counted
from relay.deed import Deed, Plan, joined, once
from relay.errors import Problem, Unfit
from relay.event import Does, Event, Json, Millis
from relay.explain import eventually, explain
from relay.plan import plan, source_of
from relay.provider import Request, Upload
from relay.render import request
from relay.replay import tried
from relay.resource import around_of
from relay.rule import Rule, Ruleset, RuleTest
from relay.source import Source

EXPLAINED: Final = 20
"""Failed tests of all rules that are told which rules came nearest: that is as dear as there are rules."""

NEAREST: Final = 3
LINES: Final = 60
"""Lines of a diff that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that did not come as it was expected."""

    key: str  #: within the test: calls[1].body
    expected: Json
    got: Json
    what: str  #: both in a line…
    large: bool = False  #: …or not quite

    def diff(self) -> list[str]:
        """Return how one becomes the other, line by line; nothing where a line has said it."""
        if not self.large:
            return []
        before, after = (_pretty(one).splitlines() for one in (self.expected, self.got))
        found = list(unified_diff(before, after, "expected", "got", lineterm="", n=2))
        left = len(found) - LINES
        return [*found[:LINES], f"… {left:,} more lines"] if left > 0 else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A test that does not pass."""

    test: RuleTest
    differences: tuple[Difference, ...]
    why: tuple[str, ...] = ()  #: what kept the rules from it, as far as it can be told

    def problems(self, file: str) -> Iterator[tuple[Problem, Difference]]:
        """Yield each difference with its place; *file* is that of the rules."""
        named = f"{self.test.name}: " if self.test.name else ""
        why = f": {'; '.join(self.why)}" if self.why else ""
        for one in sorted(self.differences, key=lambda one: self.test.lines.get(one.key, 0)):
            yield (
                Problem(
                    file=self.test.file or file,
                    line=self.test.lines.get(one.key, self.test.line),
                    key=".".join(filter(None, (self.test.key, one.key))),
                    what=f"{named}{one.what}{why}",
                ),
                one,
            )


def failed(rules: Ruleset, samples: Iterable[RuleTest], now: Millis) -> Iterator[Failed]:
    """Yield the tests that fail: each rule's own, with this rule alone, then *samples*, with all rules."""
    for rule in rules.rules:
        # A shadow's tests say what it would do.
        own = replace(rule, shadow=False)
        alone = replace(rules, rules=(own,)) if rule.tests else rules
        for test in rule.tests:
            if found := _Trial(alone, {rule.name: own}, test, rule.sources[0], now, own).failed(
                explained=True
            ):
                yield found
    named = {rule.name: rule for rule in rules.rules}
    told = 0
    for test in samples:
        if found := _Trial(rules, named, test, test.source, now).failed(explained=told < EXPLAINED):
            told += 1
            yield found


def _event(rules: Ruleset, test: RuleTest, source: str, now: Millis) -> Event:
    """Make a test's event: it comes when it says that it happened, so that no test grows old."""
    by = source_of(rules, source) or Source(name=source, open=True)
    body = orjson.dumps(test.event) if test.raw is None else test.raw
    made = tried(rules, by, test.headers, body, now if test.now is None else test.now)
    at, age = made.received_at, test.age_ms
    if test.now is None and made.happened_at is not None:
        at = made.happened_at + (age or 0)
    return replace(
        made,
        received_at=at,
        happened_at=made.happened_at if age is None else at - age,
        type=made.type if test.type is None else test.type,
        verified=test.verified or made.verified,
    )


class _Trial:
    """One event, and what comes of it by *rules*, or by *alone*, the only one of them."""

    def __init__(
        self,
        rules: Ruleset,
        named: Mapping[str, Rule],
        test: RuleTest,
        source: str,
        now: Millis,
        alone: Rule | None = None,
    ) -> None:
        self.rules, self.test, self.alone = rules, test, alone
        self.event = _event(rules, test, test.source or source, now)
        self.now = self.event.received_at
        self.plan: Plan = plan(self.event, rules, self.now)
        self.deed: Deed = joined([self.plan.deed, *self._later(named)])
        self.calls = [one for one in once(self.deed.failures) if one.action and not one.flaw]

    def _later(self, named: Mapping[str, Rule]) -> Iterator[Deed]:
        """Yield what rules do when their windows let them act, with this event alone in them."""
        for wait in self.plan.waits:
            yield from eventually(self.event, named[wait.rule], self.rules, self.now, [wait])

    def failed(self, *, explained: bool) -> Failed | None:
        differences = tuple(
            one for key, expected in self.test.wants.items() for one in _LOOK[key](self, expected)
        )
        if not differences:
            return None
        return Failed(test=self.test, differences=differences, why=tuple(self._why(explained=explained)))

    # -- what came, key by key --

    def counted(self, expected: Any) -> Iterator[Difference]:
        """Compare calls, by their number or one by one."""
        wanted = expected if isinstance(expected, list) else []
        number = len(wanted) if isinstance(expected, list) else expected
        if number != len(self.calls):
            keys = {key for one in wanted for key in one} or {"call", "case"}
            rows: list[Json] = [self._row(one, keys, {}) for one in self.calls]
            what = f"expected {counted(number, 'call')}, got {len(self.calls)}"
            large = isinstance(expected, list)
            yield Difference(key="calls", expected=expected, got=rows, what=what, large=large)
            return
        for place, (wants, call) in enumerate(zip(wanted, self.calls, strict=False), 1):  # a number: none
            row = self._row(call, wants, wants)
            for key, value in wants.items():
                if not _same(value, row[key]):
                    yield _differs(f"calls[{place}].{key}", value, row[key])

    def _row(self, one: Failure, keys: Iterable[str], wants: Mapping[str, Json]) -> dict[str, Json]:
        """Write a call as a test expects one; it is rendered only if somebody asks."""
        named: dict[str, Callable[[], Json]] = {
            "call": lambda: f"{one.provider}.{one.action}",
            "with": lambda: dict(one.values),
            "case": lambda: one.key,
            "first": lambda: one.step.value,
            "request": lambda: self._line(one, str(wants.get("request", ""))),
            "body": lambda: _body(self._request(one)),
        }
        return {key: named[key]() for key in named if key in keys}

    def _request(self, one: Failure) -> Request | None:
        provider = self.rules.providers[one.provider]
        action = provider.actions[one.action]
        try:
            return request(provider, action.shape, action, one.values, self.now)
        except Unfit:
            return None

    def _line(self, one: Failure, wanted: str) -> str:
        """Write method and URL, or only its path where that is what is wanted."""
        made = self._request(one)
        if made is None:
            return ""
        base = "" if "://" in wanted else self.rules.providers[one.provider].base_url.rstrip("/")
        return f"{made.method} {made.url.removeprefix(base)}"

    def case(self, expected: Json) -> Iterator[Difference]:
        """Compare the key of the cases that it is for."""
        keys: list[Json] = [*dict.fromkeys(one.key for one in self.deed.failures)]
        if keys != [expected]:
            yield _differs("case", expected, keys[0] if len(keys) == 1 else keys)

    def recovers(self, expected: Any) -> Iterator[Difference]:
        """Compare what is well, in any order."""
        keys = [one.key for one in self.deed.recoveries]
        if sorted(expected) != sorted(keys):
            yield _differs("recovers", expected[0] if len(expected) == 1 else expected, _plain(keys))

    def ignored(self, expected: Json) -> Iterator[Difference]:
        """Compare why nothing is done."""
        yield from _told("ignored", expected, [p.why for p in self.deed.parts if p.does is Does.IGNORE])

    def person(self, expected: Json) -> Iterator[Difference]:
        """Compare why a person must look."""
        yield from _told("person", expected, [one.person for one in self.deed.failures if one.person])

    def told(self, expected: Json) -> Iterator[Difference]:
        """Compare what is said."""
        yield from _told("told", expected, [one.text for one in self.deed.says])

    def window(self, expected: Json) -> Iterator[Difference]:
        """Compare the windows that it waits in."""
        kinds = [one.window.value for one in self.plan.waits if not one.seen]
        if expected not in kinds:
            yield _differs("window", expected, _plain(kinds))

    def meets(self, expected: Json) -> Iterator[Difference]:
        """Compare whether the rule is met."""
        if expected is not (self._miss(self.alone) is None):
            yield _differs("meets", expected, not expected)

    def acting(self, expected: Any) -> Iterator[Difference]:
        """Compare which rules have a part in it, in any order; shadows have none."""
        acts = self._acting()
        if set(expected) != set(acts):
            yield Difference(
                key="rules",
                expected=expected,
                got=[*acts],
                what=f"expected {_listed(expected)}, got {_listed(acts)}",
            )

    def _acting(self) -> list[str]:
        idle = {Does.SHADOW, Does.UNJUDGED}
        acts = [one.rule for one in self.deed.parts if one.does not in idle]
        return [*dict.fromkeys([*acts, *(one.rule for one in self.plan.waits)])]

    # -- why --

    def _miss(self, rule: Rule | None) -> object | None:
        return rule.when.miss(self.event.data, around_of(self.event, self.now)) if rule else None

    def _why(self, *, explained: bool) -> Iterator[str]:
        """Say what kept the rules from what was expected."""
        yield from dict.fromkeys(one.flaw for one in self.deed.failures if one.flaw)
        yield from (one.why for one in self.deed.parts if one.does is Does.OLD)
        if self.alone:
            missed = self._miss(self.alone)
            if missed is not None and not self.deed.parts:
                yield f"{missed} (nearly)" if getattr(missed, "near", False) else str(missed)
        elif explained and not (set(self._wanted() or self._acting()) <= set(self._acting()) != set()):
            yield from self._nearest()

    def _wanted(self) -> list[str]:
        names = self.test.wants.get("rules")
        return [str(one) for one in names] if isinstance(names, list) else []

    def _nearest(self) -> Iterator[str]:
        """Say what the rules that were wanted, else those that came nearest, had against the event."""
        entries = explain(self.event, self.rules, self.now).entries
        asked = [one for one in entries if one.rule.name in self._wanted() and not one.acts]
        for one in asked or [one for one in entries if not one.acts][:NEAREST]:
            if one.stopped:
                yield f"{one.rule.name} is not asked: {one.stopped} above stops"
            elif one.miss is not None:
                yield f"{one.rule.name}: {one.miss}{' (nearly)' if one.near else ''}"
        if not entries:
            yield f"no rule is for {self.event.source}"


_LOOK: Final[Mapping[str, Callable[[_Trial, Any], Iterator[Difference]]]] = {
    "calls": _Trial.counted,
    "case": _Trial.case,
    "recovers": _Trial.recovers,
    "ignored": _Trial.ignored,
    "person": _Trial.person,
    "told": _Trial.told,
    "window": _Trial.window,
    "meets": _Trial.meets,
    "rules": _Trial.acting,
}


def _body(made: Request | None) -> Json:
    """Return what is sent as a test writes it: JSON, or a form with its files as @name."""
    if made is None:
        return None
    if isinstance(made.body, Upload):
        files = {name: f"@{path.relative_to(made.body.root)}" for name, path, _ in made.body.files}
        return {**dict(made.body.fields), **files}
    if not made.body:
        return None
    found: Json = orjson.loads(made.body)
    return found


def _told(key: str, expected: Json, texts: Sequence[str]) -> Iterator[Difference]:
    """Compare texts: *expected* is one of them, or whether there are any."""
    if expected is not bool(texts) and (isinstance(expected, bool) or expected not in texts):
        got: Json = bool(texts) if isinstance(expected, bool) and not texts else _plain(texts)
        yield _differs(key, expected, got)


def _differs(key: str, expected: Json, got: Json) -> Difference:
    large = isinstance(expected, dict | list) and isinstance(got, dict | list)
    what = "it differs" if large else f"expected {_said(expected)}, got {_said(got)}"
    return Difference(key=key, expected=expected, got=got, what=what, large=large)


def _same(one: Json, other: Json) -> bool:
    """Say whether two values are the same JSON: 1 is 1.0, and true is neither."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def _plain(texts: Sequence[str]) -> Json:
    """Return what stands alone without a list around it; nothing is nothing."""
    return (texts[0] if len(texts) == 1 else [*texts]) if texts else None


def _pretty(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _said(value: Json) -> str:
    """Write a value in a line."""
    if value in (None, []) and not isinstance(value, bool):
        return "none"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
