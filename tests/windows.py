"""What do tests of windows share?  Events as steps, and what each kind means, written plainly."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from relay.deed import Wait
from relay.rule import Window

MS = 1_000
THRESHOLD = 3


@dataclass(frozen=True, slots=True)
class Step:
    """An event, so many milliseconds after the one before; *seen* is what a rule expects."""

    after: int
    key: str
    mark: str
    seen: bool


@dataclass(frozen=True, slots=True, order=True)
class Acted:
    """The rule acted: for the window's first event, or by the one that made it full; with how many."""

    event: str
    events: int


STEPS = st.lists(
    st.builds(
        Step,
        after=st.one_of(st.integers(0, 400), st.sampled_from([MS - 1, MS, MS + 1])),
        key=st.sampled_from("ab"),
        mark=st.sampled_from("xyz"),
        seen=st.booleans(),
    ),
    max_size=25,
)
"""Random events, many of them exactly at the end of a window."""


def wait(kind: Window, step: Step) -> Wait:
    """Return what a rule makes of an event, as `relay.plan` does."""
    return Wait(
        rule="r",
        window=kind,
        key="" if kind is Window.ONCE_AFTER else step.key,
        mark=step.mark if kind is Window.ONCE_AFTER else "",
        ms=MS,
        threshold=THRESHOLD if kind is Window.ACCUMULATE_WITHIN else 1,
        seen=step.seen and kind is Window.EXPECT,
    )


def meaning(kind: Window, steps: Sequence[Step]) -> list[Acted]:
    """Return what a rule does in the end, however late anybody looks after its windows."""
    at, open_, acted = 0, dict[str, tuple[int, list[tuple[str, str]]]](), []
    for number, step in enumerate(steps):
        at += step.after
        key, name = wait(kind, step).key, f"e{number}"
        if key in open_ and at >= open_[key][0] + MS:
            _, several = open_.pop(key)
            if kind in {Window.ONCE_AFTER, Window.EXPECT}:
                acted.append(Acted(several[0][0], len(several)))
        if step.seen and kind is Window.EXPECT:
            open_.pop(key, None)
            continue
        if key not in open_:
            open_[key] = (at, [])
            if kind is Window.ONCE_WITHIN:
                acted.append(Acted(name, 1))
        several = open_[key][1]
        if kind is Window.EXPECT and several:
            continue
        if kind is Window.ONCE_AFTER and step.mark in {mark for _, mark in several}:
            continue
        several.append((name, step.mark))
        if kind is Window.ACCUMULATE_WITHIN and len(several) == THRESHOLD:
            acted.append(Acted(name, THRESHOLD))
            del open_[key]
    if kind in {Window.ONCE_AFTER, Window.EXPECT}:
        acted += [Acted(several[0][0], len(several)) for _, several in open_.values()]
    return sorted(acted)
