"""Hundreds of failures at once: people are told once, one retry goes first, and in the end all is well."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from story import Story, failed_file, sent, story, until

from relay.case import ENDS, Case, Stand
from relay.demo.sim import Window

FILES = 500
CASES = 20
"""More than so many at once are a storm."""

IN_A_HURRY = """
[[rule]]
name = "files, in a hurry"
from = "writer"
when.type = "file.failed"
case = "{file_id}"
call = "writer.retry"
with.file_id = "{file_id}"
budget = { retries = 9, within = "24h", wait = ["0s"] }
"""

QUICK: dict[str, Any] = {
    "limit": {"rate": "200/s", "burst": 20},
    "action": {"retry": {"check": {"wait": ["600ms", "200ms"]}}},
}


def fails(on: Story, number: int, *, outcomes: Iterable[str] = ()) -> list[str]:
    """Let so many files fail, and their pipeline tell of it as fast as it can; return which."""
    files = [failed_file(on, outcomes=outcomes) for _ in range(number)]
    began = on.writer.clock()
    with ThreadPoolExecutor(8) as pipeline:
        told = list(pipeline.map(lambda file: on.post("writer", file[1]).status, files))
    # Two seconds or three on a machine that does nothing else; the storm is the same if it takes longer.
    assert on.writer.clock() - began < 30
    assert {202} == set(told)
    return [key for key, _ in files]


def all_recovered(on: Story, keys: Iterable[str], within_s: float) -> list[Case]:
    """Wait until no case is left that has not ended, and return them: one for each of *keys*, and well."""

    def over() -> bool:
        # Cheap, for the simulators live in this process, too.
        return not any(on.store().cases(limit=1, state=stand.value) for stand in Stand if stand not in ENDS)

    until(over, lambda: Counter(case.state for case in on.cases()), within_s)
    cases = on.cases()
    assert Counter(keys) == Counter(case.key for case in cases)
    assert {Stand.RECOVERED} == {case.state for case in cases}
    return cases


def loud(on: Story) -> list[str]:
    """Return what was said of which people are told."""
    return [line["event"] for line in on.relay.lines if line["level"] in {"warning", "error", "critical"}]


def at(line: dict[str, Any]) -> float:
    """Return when a line was said, in seconds since 1970."""
    return datetime.fromisoformat(str(line["at"])).timestamp()


def is_probe(line: dict[str, Any]) -> bool:
    """Say whether a line tells that a case which waited was let go."""
    return line["event"] == "case.moved" and str(line["why"]).startswith("let go")


def widths(on: Story) -> list[tuple[int, int]]:
    """Return, for each retry that was let go, how many were out with it, and how many had helped before."""
    found, out, helped, stormy = [], 0, 0, False
    for line in on.relay.lines:
        if line["event"] == "storm.began":
            # Those whose retry was not begun yet wait with the one that began it.
            stormy, out = True, out - line["waiting"] + 1
        elif line["event"] == "case.opened" and line["state"] == Stand.RETRYING:
            out += 1
        elif line["event"] == "case.recovered":
            out, helped = out - 1, helped + stormy
        elif is_probe(line):
            out += 1
            found.append((out, helped))
    return found


def useless(on: Story) -> list[float]:
    """Return when each probe was known to have failed again."""
    probes: dict[str, bool] = {}
    found = []
    for line in on.relay.lines:
        if is_probe(line):
            probes[line["case"]] = True
        elif str(line.get("what")).startswith("it failed again") and probes.pop(line["case"], False):
            found.append(at(line))
    return found


def test_a_storm_is_told_once_and_blows_over(tmp_path: Path) -> None:
    """Of 500 cases none is told by itself; one more goes for each that helped, and each is retried once."""
    storm = {"storm": {"cases": CASES, "within": "10s"}}
    with story(tmp_path, heals_after_s=0.5, first=IN_A_HURRY, writer=QUICK | storm) as on:
        on.writer.limit = Window(1_000_000, 60)
        on.start()
        keys = fails(on, FILES)
        all_recovered(on, keys, within_s=45)
        (ended,) = until(lambda: on.relay.said("storm.ended"), "it is said that it is over")

        (began,) = on.relay.said("storm.began")
        assert ["storm.began"] == loud(on)
        assert (f"more than {CASES} cases in 10 s", True) == (began["why"], began["waiting"] >= 1)
        assert ("none waits any more", 0) == (ended["why"], ended["waiting"])
        assert dict.fromkeys(keys, 1) == on.writer.retries
        assert FILES == len(on.relay.said("case.recovered"))
        # Those that were out already are the first probes: until one of them has helped, no other goes.
        first = min(at(line) for line in on.relay.said("case.recovered"))
        assert sum(one < first for one in sent(on.writer)) <= CASES + 1
        let_go = widths(on)
        assert FILES - CASES + began["waiting"] - 1 == len(let_go)
        assert [] == [(out, helped) for out, helped in let_go if out > helped + 1]


def test_an_outage_is_probed_and_not_hammered(tmp_path: Path) -> None:
    """While no retry helps, few are made, ever more rarely; when the provider is well again, all recover."""
    storm = {"storm": {"cases": CASES, "within": "5s", "rest": "1s"}}
    with story(tmp_path, heals_after_s=0.2, first=IN_A_HURRY, writer=QUICK | storm) as on:
        on.writer.limit = Window(1_000_000, 60)
        on.start()
        keys = fails(on, FILES, outcomes=["failed"] * 9)
        until(lambda: len(useless(on)) >= 2, "two probes came to nothing")
        during = dict(on.writer.retries)
        for file in list(on.writer.held.values()):
            file.outcomes.clear()
        all_recovered(on, keys, within_s=60)
        until(lambda: on.relay.said("storm.ended"), "it is said that it is over")

        assert ["storm.began"] == loud(on)
        # Each probe is another case: none spends its budget for all.
        assert (len(during) <= CASES + 2, {1}) == (True, set(during.values()))
        assert dict.fromkeys(keys, 1) | dict.fromkeys(during, 2) == on.writer.retries
        failed, let_go = useless(on)[:2], [at(line) for line in on.relay.lines if is_probe(line)]
        rests = [min(one for one in let_go if one > end) - end for end in failed]
        # A line is said a moment after what it tells of.
        assert [] == [rest for rest, least in zip(rests, (2, 4), strict=True) if rest < least - 0.25]
