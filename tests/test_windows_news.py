"""When was that seen of which a window tells at its end?  A retry, or an end, may have come meanwhile."""

import pytest
from conftest import Door
from shore import Shore
from test_windows_store import Sill, fails
from windows import MS

from relay.case import Act
from relay.rule import Window
from relay.store import Store


@pytest.fixture
def sill(store: Door) -> Sill:
    """Return a store into which nothing has come yet."""
    return Sill(store)


def test_what_was_collected_before_a_retry_was_taken_is_no_news(sill: Sill) -> None:
    """The end of a window is not when something failed: that was when its last event came."""
    sill.of(Window.ONCE_AFTER)
    sill.comes(deed=fails("end of ev_000001"))
    shore = Shore(sill.store)
    shore.now = sill.now + 5
    shore.accept()
    sill.now += MS
    (span,) = sill.claim().over
    assert ["stale"] == [move.moment.kind for move in sill.close(span).moves]


def test_that_nothing_came_is_seen_when_the_time_for_it_is_over(sill: Sill) -> None:
    """A case of that name that ended meanwhile knows nothing of it: it is a new one."""
    opened = sill.of(Window.EXPECT)
    sill.comes(deed=fails(f"end of {opened.event}"))
    sill.now += 10
    sill.store(Store.act, f"end of {opened.event}", Act.CLOSE, by="ann", why="", now=sill.now)
    sill.now += MS
    (span,) = sill.claim().over
    assert ["opened"] == [move.moment.kind for move in sill.close(span).moves]
