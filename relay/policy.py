"""How far may relay go with a case?  From a rule's knobs to its `Policy`, or to what can't go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.call import Priority
from relay.case import Policy
from relay.condition import near
from relay.document import Document
from relay.event import Json
from relay.hours import NoHours, hours
from relay.inner import holes, pattern
from relay.match import Pattern
from relay.place import Path
from relay.provider import Storm
from relay.render import CALL_ID
from relay.schema import ActionFile, ApproveFile, BatchFile, BudgetFile, RuleFile, said


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What a rule says about the way of its cases."""

    recovered: Pattern | None
    approve: Pattern | None
    policy: Policy


def compile_knobs(
    doc: Document, path: Path, action: ActionFile | None, storm: Storm, file: RuleFile | None
) -> Knobs:
    """Check the knobs of the rule at *path*, of *file* if its form is right; problems go to the document."""
    rule: Any = doc.at(path)
    rule = rule if isinstance(rule, dict) else {}
    made: dict[str, Any] = {
        "storm_cases": storm.cases, "storm_ms": storm.within_ms, "storm_rest_ms": storm.rest_ms,
    }  # fmt: skip
    for key, read in (("budget", _budget), ("approve", _approve), ("only", _only)):
        if key in rule:
            made |= read(doc, (*path, key))
    if file is not None:
        made["priority"] = Priority[file.priority.upper()]
        if file.delay is not None:
            made["wait_ms"] = (file.delay, *made.get("wait_ms", Policy().wait_ms)[1:])
    if action is not None:
        made |= _from_action(action)
        if "batch" in rule and "call" in rule:  # without it, it is told that nothing can be batched
            made |= _batch(doc, (*path, "batch"), action, rule["call"])
    if file is not None and file.recover_within is not None:
        made["recover_ms"] = file.recover_within
        if action is not None and action.check is not None and file.recover_within < made["check_ms"]:
            what = f"it ends before the first check, which comes after {said(made['check_ms'])}"
            doc.wrong((*path, "recover_within"), what)
    recovered = _pattern(doc, (*path, "recovered"))
    if recovered is not None and rule["recovered"] == rule.get("when"):
        doc.wrong((*path, "recovered"), "it can't be met: an event that meets when has failed")
    return Knobs(
        recovered=recovered, approve=_pattern(doc, (*path, "approve", "when")), policy=Policy(**made)
    )


def _pattern(doc: Document, path: Path) -> Pattern | None:
    table = doc.at(path)
    return pattern(doc, path, table) if isinstance(table, dict) else None


def _from_action(action: ActionFile) -> Mapping[str, Any]:
    """Return what the provider's file says about how its action is followed."""
    made: dict[str, Any] = {"keep": next(iter(action.keep), "")}
    if check := action.check:
        made |= {"looks": True, "check_ms": check.wait[0], "recover_ms": check.within}
    return made


def _budget(doc: Document, path: Path) -> Mapping[str, Any]:
    file = doc.fit(BudgetFile, path, quiet=True)
    if file is None:
        return {}
    if "wait" in file.model_fields_set and len(file.wait) > file.retries:
        what = f"{len(file.wait)} waits for {file.retries} {'retry' if file.retries == 1 else 'retries'}"
        doc.wrong((*path, "wait"), f"{what}: the rest would never be used")
    # A window that is over before the last retry is due never has them all in it.
    between = sum(file.wait[min(number, len(file.wait) - 1)] for number in range(1, file.retries))
    if between >= file.within:
        what = f"the waits between {file.retries} retries are {said(between)}, within is {said(file.within)}"
        doc.wrong(path, f"{what}: it would never be spent", "fewer retries, shorter waits, or more time")
    return {"retries": file.retries, "within_ms": file.within, "wait_ms": tuple(file.wait)}


def _approve(doc: Document, path: Path) -> Mapping[str, Any]:
    if isinstance(doc.at(path), bool):
        return {"approve": doc.at(path)}
    file = doc.fit(ApproveFile, path, quiet=True)
    if file is None:
        return {}
    return {"approve": file.when is None, "approve_ms": file.within, "approve_then": file.then}


def _only(doc: Document, path: Path) -> Mapping[str, Any]:
    text = doc.at(path)
    if not isinstance(text, str):
        return {}
    try:
        hours(text)
    except NoHours as flaw:
        doc.wrong(path, flaw.what, flaw.hint)
    return {"only": text}


def _batch(doc: Document, path: Path, action: ActionFile, call: str) -> Mapping[str, Any]:
    """Check that requests of this action differ in one list of their body, and in nothing else."""
    file = doc.fit(BatchFile, path, quiet=True)
    if file is None:
        return {}
    body: Mapping[str, Json] = action.json_ if isinstance(action.json_, dict) else {}
    lists = [name for name, value in body.items() if isinstance(value, list)]
    at = (*path, "field")
    if file.field not in lists:
        doc.wrong(at, f"{call} has no list {file.field!r} at the top of its json", near(file.field, lists))
        return {}
    rest = [value for name, value in body.items() if name != file.field]
    outside = holes(action.request, *action.query.values(), *action.headers.values(), *rest)
    inside = holes(body[file.field])
    if several := sorted(outside | ({CALL_ID} & inside)):
        said_ = " ".join(f"{{{name}}}" for name in several)
        doc.wrong(path, f"retries of {call} can't share a request: {said_} may differ from one to the other")
    elif not inside:
        doc.wrong(at, f"nothing in {file.field!r} says what a retry of {call} is for")
    return {"batch": f"{file.field}:{file.max}", "batch_ms": file.wait}
