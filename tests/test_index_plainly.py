"""Does the index say of many patterns what a slow and plain matcher says of each?"""

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plainly import ENVELOPE, NOW, events, items, patterns, plainly

from relay.index import Index
from relay.match import Around, Pattern
from relay.match import pattern as language

PAIRS = int(os.environ.get("RELAY_TEST_PAIRS", "2000"))
"""So many of a pattern and an event; CI takes 20,000."""

PATTERNS, EVENTS = 8, 5
AROUND = Around(ENVELOPE, NOW)

_AROUND = st.dictionaries(
    st.sampled_from(["$source", "$type", "$headers.x-a", "$headers.x.b", "$id"]),
    st.lists(
        st.sampled_from(["a", "ab", "abc", "1", {"prefix": "a"}, {"exists": False}]), min_size=1, max_size=2
    ),
    max_size=1,
)
SETS = st.lists(
    st.builds(lambda one, around: {**one, **around}, patterns(), _AROUND),
    min_size=PATTERNS,
    max_size=PATTERNS,
)
WIDE = st.lists(
    patterns(
        items().filter(
            lambda one: isinstance(one, dict) and {"anything-but", "exists", "is-null"} & one.keys()
        )
    ),
    min_size=PATTERNS,
    max_size=PATTERNS,
)


@settings(
    deadline=None,
    max_examples=max(1, PAIRS // (PATTERNS * EVENTS)),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(
    tables=SETS | WIDE,
    data=st.lists(events(), min_size=EVENTS, max_size=EVENTS),
    times=st.sampled_from([1, 9, 40]),
)
def test_the_index_meets_what_the_plain_matcher_meets(
    tables: list[dict[str, Any]], data: list[Any], times: int
) -> None:
    """Random patterns and events with nested arrays: no disagreement, be it alone or crowded by its likes."""
    made = [Pattern(one, toml=True, envelope=language.ENVELOPE) for one in tables] * times
    index = Index(made)
    for event in data:
        plain = {i for i, one in enumerate(tables) if plainly(one, event, ENVELOPE, NOW)}
        wanted = [i for i in range(len(made)) if i % len(tables) in plain]
        assert wanted == list(index.met(event, AROUND))
