"""Does a rule hold together?  What it does about an event, and which of its knobs can't go together."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.calling import aims_at, check_call
from relay.condition import near
from relay.document import Document
from relay.event import Json, Trust
from relay.inner import holes, pattern, template
from relay.match import Pattern
from relay.place import Path, written
from relay.policy import Knobs, compile_knobs
from relay.provider import Provider, Storm
from relay.rule import Aim, Expect, Rule, RuleTest, Throttle, Window
from relay.schema import ActionFile, CallFile, EventFile, ExpectFile, RuleFile, RuleTestFile, ThrottleFile
from relay.source import Condition
from relay.template import needed

PATTERNS: Final = frozenset({"when", "recovered", "approve", "expect", "test"})
"""Keys of a rule in which no template stands, or not only."""

FOREIGN: Final = re.compile(r"\s*(?:\{\{\s*([\w.$*-]+)\s*\}\}|\$\{\{?\s*([\w.$*-]+)\s*\}?\})\s*")
"""Placeholders of other languages."""

ENDS: Final = ("call", "calls", "person", "tell", "ignore")

KNOWN: Final = ("$id", "$source", "$type", "$verified", "$received_at", "$resource", "$headers")
"""What templates know besides the body."""

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "with": ("call",),
    "budget": ("call", "calls"),
    "approve": ("call", "calls"),
    "only": ("call", "calls"),
    "batch": ("call",),
    "delay": ("call", "calls"),
    "priority": ("call", "calls"),
    "recover_within": ("call", "calls"),
    "case": ("call", "person"),
    "recovered": ("call", "calls", "person"),
    "say": ("tell",),
}
"""Keys that do nothing without one of these others."""

APART: Final = (
    ("ignore", ("person", "tell", "throttle", "expect", "max_age"), "nothing is done about what is ignored"),
    ("ignore", ("stop",), "rules below are not asked anyway"),
    ("calls", ("call", "with", "case", "batch"), "each of calls has its own"),
    ("person", ("approve", "delay", "batch"), "a person says when it is retried"),
    ("throttle", ("expect",), "a rule has one window"),
)
"""A key, those that can't stand beside it, and why."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What rules are checked against: the documents and providers that they may call."""

    documents: Mapping[str, Document | None]
    providers: Mapping[str, Provider]
    timed: frozenset[str]  #: sources that say when something happened

    def compile(self, doc: Document, path: Path) -> Rule | None:
        """Check the rule at *path*, one of the wrong form as far as it goes; return it if it is right."""
        table = doc.at(path)
        if isinstance(table, dict):
            _together(doc, path, table)
        table = table if isinstance(table, dict) else {}
        window = _window_of(table)
        for key in ("with", "case", "person", "say"):
            _template(doc, (*path, key), table.get(key), window)
        if hole := next(iter(holes(table.get("ignore"))), ""):
            doc.wrong((*path, "ignore"), f"a reason is no template: {{{hole}}} would stay as it is")
        meets = pattern(doc, (*path, "when"), table["when"]) if isinstance(table.get("when"), dict) else None
        file = doc.fit(RuleFile, path, quiet=True)
        aims, first = [], None
        for at, call in aims_at(doc, path):
            aim, knobs = self._aim(doc, path, at, call, file)
            aims.append(aim)
            first = first or knobs
        if not aims:
            first = compile_knobs(doc, path, None, Storm(), file)
            aims = [Aim(case=file.case, policy=first.policy)] if file and file.person else []
            if file and file.person and not (file.case or file.ignore):
                doc.wrong(path, "without a call, nothing names the resource", 'case = "…{id}"')
        throttle = _throttle(doc, (*path, "throttle"))
        expect = _expect(doc, (*path, "expect"))
        self._max_age(doc, path, table)
        if file is None or meets is None or first is None:
            return None
        return Rule(
            name=file.name,
            sources=tuple(file.from_),
            when=meets,
            aims=tuple(aims),
            ignore=file.ignore,
            person=file.person,
            tell=file.tell,
            say=file.say,
            recovered=first.recovered,
            approve=first.approve,
            throttle=throttle,
            expect=expect,
            max_age_ms=file.max_age,
            stop=file.stop,
            shadow=file.mode == "shadow",
            headers=_headers(table, [meets, first.recovered, first.approve, expect.when if expect else None]),
            tests=tuple(
                wanted(doc, (*path, "test", each), one, file.from_) for each, one in enumerate(file.test)
            ),
        )

    def _aim(
        self, doc: Document, path: Path, at: Path, call: str | None, file: RuleFile | None
    ) -> tuple[Aim, Knobs]:
        """Check one call of a rule, which stands at *at*."""
        check_call(doc, at, call, self.documents)
        if at != path:
            for key in ("with", "case"):
                _template(doc, (*at, key), doc.at((*at, key)), _window_of(doc.at(path)))
        name, _, action = (call or "").partition(".")
        storm = self.providers[name].storm if name in self.providers else Storm()
        provider = self.documents.get(name)
        asked_of = provider.fit(ActionFile, ("action", action), quiet=True) if provider else None
        knobs = compile_knobs(doc, path, asked_of, storm, file)
        own = doc.fit(CallFile, at, quiet=True) if at != path else file
        given = own.with_ if own else {}
        case = own.case if own else ""
        return Aim(provider=name, action=action, with_=given, case=case, policy=knobs.policy), knobs

    def _max_age(self, doc: Document, path: Path, table: Mapping[str, Any]) -> None:
        """See that somebody says how old an event is, where a rule wants to know."""
        if "max_age" not in table:
            return
        for _, name in _each(table.get("from"), path):
            if isinstance(name, str) and name not in self.timed:
                what = f"the source {name!r} does not say when something happened"
                doc.wrong((*path, "max_age"), what, 'time = "body:created_at" there')


def _headers(table: Mapping[str, Any], patterns: Iterable[Condition | None]) -> frozenset[str]:
    """Return the headers that a rule's patterns and templates ask for: only they are kept with an event."""
    several = [one for one in patterns if isinstance(one, Pattern)]
    paths = [field.path for one in several for each in one.alternatives for field in each.fields]
    told = {key: value for key, value in table.items() if key not in PATTERNS}
    found = {*paths, *holes(told), *holes({"expect": _without(table.get("expect"), "when")})}
    return frozenset(one.partition(".")[2] for one in found if one.startswith("$headers."))


def asking(doc: Document, path: Path, header: str) -> Path:
    """Return the first place at or below *path* that speaks of the *header*, in a pattern or a template."""
    found = [(path, doc.at(path))]
    for at, value in found:
        if isinstance(value, dict):
            found += [((*at, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            found += [((*at, number), item) for number, item in enumerate(value)]
        said = ".".join(map(str, at[len(path) :])) + (f" {value}" if isinstance(value, str) else "")
        if f"$headers.{header}" in said.lower():
            return at
    return path


def _without(table: Any, key: str) -> Json:
    return {name: value for name, value in table.items() if name != key} if isinstance(table, dict) else None


def _together(doc: Document, path: Path, table: Mapping[str, Any]) -> None:
    """Note keys that do nothing beside others."""
    has = {key for key in table if table[key] not in ("", False, [])}
    if not has & set(ENDS):
        doc.wrong(path, "expected call, calls, person, tell or ignore: what is to be done?")
        return
    beside = {other for key, others, _ in APART if key in has for other in others}
    for key, others in NEEDS.items():
        if key in has - beside and not has & set(others):
            doc.wrong((*path, key), f"it does nothing without {' or '.join(others)}")
    for key, others, why in APART:
        for other in others:
            if key in has and other in has:
                doc.wrong((*path, other), f"it can't stand beside {key}: {why}")
    if "ignore" in has and has & {"call", "calls"}:
        doc.wrong((*path, "ignore"), "it can't stand beside a call: nothing is done about what is ignored")
    if table.get("mode") == "shadow" and (idle := sorted(has & {"stop", "ignore"})):
        doc.wrong((*path, idle[0]), "a shadow rule changes nothing: this would do nothing", 'mode = "live"')
    budget = table.get("budget")
    if "delay" in table and isinstance(budget, dict) and "wait" in budget:
        doc.wrong((*path, "delay"), "budget.wait says it already: its first time is this", "only one of them")


def _window_of(table: Any) -> Window | None:
    """Return what a rule's window is for, as far as the file says it."""
    table = table if isinstance(table, dict) else {}
    throttle = table.get("throttle")
    kinds = [kind for kind in Window if isinstance(throttle, dict) and kind.value in throttle]
    return kinds[0] if kinds else Window.EXPECT if "expect" in table else None


def _template(doc: Document, path: Path, value: Json, window: Window | None) -> None:
    """Check templates over an event, and that they ask for nothing around it that is not there."""
    known = {*KNOWN, *({"$count"} if window else ()), *({"$events"} if window is Window.ONCE_AFTER else ())}
    told = len(doc.problems)
    for at, text in _leaves(path, value):
        if found := FOREIGN.fullmatch(text):
            doc.wrong(
                at,
                f"{text.strip()!r} would go out as it stands",
                f'a placeholder is "{{{found[1] or found[2]}}}"',
            )
    for at, hole in list(template(doc, path, value)):
        first = hole.partition(".")[0]
        if not first.startswith("$") or first in known:
            continue
        if first in {"$count", "$events"}:
            hint = "throttle.once_after collects events" if first == "$events" else "a throttle counts events"
            doc.wrong(at, f"there is no {first} without a window", hint)
        else:
            doc.wrong(at, f"there is no {first}", near(first, known))
    sure = isinstance(value, str) and len(doc.problems) == told and list(needed(value))
    if path[-1] == "case" and isinstance(value, str) and value and not sure and len(doc.problems) == told:
        what = "all that fails would be one case, and be retried as one"
        doc.wrong(path, what, 'what names the resource, as in "{job.id}"')


def _leaves(path: Path, value: Json) -> Iterator[tuple[Path, str]]:
    """Yield each text in a tree of templates."""
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                yield from _leaves((*path, key), item)
        case list():
            for number, item in enumerate(value):
                yield from _leaves((*path, number), item)
        case _:
            return


def _throttle(doc: Document, path: Path) -> Throttle | None:
    file = doc.fit(ThrottleFile, path, quiet=True) if doc.at(path) is not None else None
    if file is None:
        return None
    _names(doc, (*path, "by"), file.by, "it is the same for all events", "leave it out, if that is meant")
    given = {kind: getattr(file, kind.value) for kind in Window if kind is not Window.EXPECT}
    kinds = [kind for kind, ms in given.items() if ms is not None]
    names = [kind.value for kind in given]
    if len(kinds) != 1:
        got = " and ".join(kinds) or "none"
        doc.wrong(path, f"expected one of {', '.join(names)}, got {got}")
        return None
    if (file.threshold is None) == (kinds[0] is Window.ACCUMULATE_WITHIN):
        what = "how many make it act?" if file.threshold is None else f"{kinds[0]} counts no events"
        doc.wrong(
            (*path, "threshold") if file.threshold else path, what, "threshold goes with accumulate_within"
        )
    ms = given[kinds[0]]
    assert ms is not None
    return Throttle(kind=kinds[0], ms=ms, by=file.by, threshold=file.threshold or 1)


def _names(doc: Document, path: Path, text: str, constant: str, hint: str) -> None:
    """Check a template for a window's key: before anything is in the window, and different for each thing."""
    told = len(doc.problems)
    for at, hole in template(doc, path, text):
        if (first := hole.partition(".")[0]) in {"$count", "$events"}:
            doc.wrong(at, f"there is no {first} yet: the key says which window an event goes into")
    if text and len(doc.problems) == told and not list(needed(text)):
        doc.wrong(path, constant, hint)


def _expect(doc: Document, path: Path) -> Expect | None:
    table = doc.at(path)
    file = doc.fit(ExpectFile, path, quiet=True) if table is not None else None
    when = doc.at((*path, "when"))
    meets = pattern(doc, (*path, "when"), when) if isinstance(when, dict) else None
    if file is None or meets is None:
        return None
    for key, text in (("by", file.by), ("seen_by", file.seen_by)):
        _names(
            doc, (*path, key), text, "any such event would do, whatever it is about", 'a template: "{job.id}"'
        )
    return Expect(when=meets, ms=file.within, by=file.by, seen_by=file.seen_by or file.by)


def sources_of(doc: Document, path: Path, known: list[str]) -> list[str]:
    """Check that each source in ``from`` is there, and return what it names."""
    seen: list[str] = []
    for at, name in _each(doc.at(path), path):
        if isinstance(name, str) and name not in known:
            doc.wrong(at, f"there is no source {name!r}", near(name, known))
        elif isinstance(name, str) and name in seen:
            doc.wrong(at, f"the source {name!r} stands here twice")
        seen.append(str(name))
    return seen


def _each(names: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(names, list):
        yield from (((*path, number), name) for number, name in enumerate(names))
    else:
        yield path, names


# -- tests --

WANTS: Final = ("calls", "case", "recovers", "ignored", "person", "told", "window", "meets", "rules")
"""Keys of a test that say what is expected."""


def wanted(doc: Document, path: Path, file: RuleTestFile | EventFile, sources: Collection[str]) -> RuleTest:
    """Return the test at *path*; that it expects nothing, or comes from none of *sources*, is a problem."""
    given = [key for key in WANTS if key in file.model_fields_set]
    wants: dict[str, Json] = {key: getattr(file, key) for key in given if key != "calls"}
    if "calls" in given:
        wants["calls"] = doc.at((*path, "calls"))  # as it stands: what is not said is not compared
    if not wants:
        keys = [key for key in WANTS if key in type(file).model_fields]
        doc.wrong(path, f"expected one of {', '.join(keys)}: what shall come of it?")
    if file.source and file.source not in sources:
        doc.wrong((*path, "source"), f"there is no source {file.source!r} here", near(file.source, sources))
    _, line, key = doc.place(path)
    inner: list[Path] = [(name,) for name in wants]
    calls = wants.get("calls")
    for number, call in enumerate(calls if isinstance(calls, list) else ()):
        inner += [("calls", number, name) for name in call] if isinstance(call, dict) else []
    lines = {written(one): doc.place((*path, *one))[1] for one in inner}
    return RuleTest(
        event=file.event if isinstance(file, RuleTestFile) else file.body,
        source=file.source,
        type=file.type,
        headers=file.headers,
        verified=Trust(file.verified) if file.verified else None,
        now=file.now,
        age_ms=file.age,
        wants=wants,
        name="" if isinstance(file, RuleTestFile) else file.name,
        line=line,
        key=key,
        lines={key: at for key, at in lines.items() if at is not None},
    )
