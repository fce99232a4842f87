"""How long to wait: backoff, and Retry-After in all its spellings, never undershot."""

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from fractions import Fraction

import pytest
from build import NOW, action, call, check, provider, reply
from hypothesis import example, given
from hypothesis import strategies as st

from relay.call import Done, Retry, Throttled, Unknown
from relay.gate import LONGEST_WAIT_MS
from relay.judge import judge
from relay.look import judge_look
from relay.provider import Reply
from relay.trial import CAP_MS, FLOOR_MS, Trial, backoff_ms, retry_after_ms

LUCK = st.floats(0, 1)
HTTP_NOW = "Tue, 14 Nov 2023 22:13:20 GMT"


@given(st.integers(-5, 10**9), LUCK)
@example(0, 0.0)
@example(10**9, 1.0)
def test_backoff_has_bounds(number: int, luck: float) -> None:
    """Never under half a second, never over a quarter of an hour, whatever the number and the luck."""
    assert FLOOR_MS <= backoff_ms(number, luck) <= CAP_MS


def test_backoff_doubles() -> None:
    """With the worst luck the waits are 2, 4, 8 … seconds up to the cap; with the best, half a second."""
    assert [2_000, 4_000, 8_000, 16_000] == [backoff_ms(number, 1.0) for number in range(1, 5)]
    assert [512_000, CAP_MS, CAP_MS] == [backoff_ms(number, 1.0) for number in (9, 10, 5_000)]
    assert [FLOOR_MS] * 3 == [backoff_ms(number, 0.0) for number in (1, 2, 5_000)]
    assert 4_000 == backoff_ms(3, 0.5)


@given(st.integers(1, 30), LUCK, LUCK)
def test_more_luck_is_a_longer_wait(number: int, less: float, more: float) -> None:
    """Jitter is spread over the whole range."""
    assert backoff_ms(number, min(less, more)) <= backoff_ms(number, max(less, more))


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, {}),
        (0, {"retry-after": "0"}),
        (3_000, {"retry-after": "3"}),
        (3_000, {"retry-after": " 3 "}),
        (7_513, {"retry-after": "7.513"}),
        (1, {"retry-after": "0.0001"}),
        (1_001, {"retry-after": "1.0001"}),
        (1_000_000_000_001, {"retry-after": "1000000000.000000001"}),
        (250, {"retry-after-ms": "250"}),
        (250, {"retry-after-ms": "250", "retry-after": "9"}),
        (9_000, {"retry-after-ms": "junk", "retry-after": "9"}),
        (9_000, {"retry-after-ms": "²", "retry-after": "9"}),
        (9_000, {"retry-after-ms": "9" * 14, "retry-after": "9"}),
        # the three forms of RFC 9110 5.6.7, against our clock
        (7_000, {"retry-after": "Tue, 14 Nov 2023 22:13:27 GMT"}),
        (7_000, {"retry-after": "Tuesday, 14-Nov-23 22:13:27 GMT"}),
        (7_000, {"retry-after": "Tue Nov 14 22:13:27 2023"}),
        (0, {"retry-after": "Tue, 14 Nov 2023 22:13:19 GMT"}),
        (0, {"retry-after": "Mon, 01 Jan 0001 00:00:00 GMT"}),
        # against theirs, which is wrong by an hour
        (7_000, {"retry-after": "Tue, 14 Nov 2023 23:13:27 GMT", "date": "Tue, 14 Nov 2023 23:13:20 GMT"}),
        (7_000, {"retry-after": "Tue Nov 14 21:13:27 2023", "date": "Tuesday, 14-Nov-23 21:13:20 GMT"}),
        (7_000, {"retry-after": "Tue, 14 Nov 2023 22:13:27 GMT", "date": "yesterday"}),
        (0, {"retry-after": "Tue, 14 Nov 2023 22:13:27 GMT", "date": "Tue, 14 Nov 2023 23:13:20 GMT"}),
    ],
)
def test_retry_after(expected: int | None, headers: dict[str, str]) -> None:
    """Seconds, fractions rounded up, milliseconds, and HTTP dates by the clock of who sent them."""
    assert expected == retry_after_ms(Reply(status=429, headers=headers, body=b""), NOW)


@pytest.mark.parametrize(
    "junk",
    [
        *(
            "",
            " ",
            "-1",
            "+1",
            "1e3",
            "inf",
            "nan",
            "0x10",
            "5s",
            "5, 10",
            "120, 120",
            "1_000",
            "\uff11\uff12",
            "\u0663",
            "1.",
            ".5",
        ),
        *(
            "soon",
            "1" * 101,
            "1.2.3",
            "Tue, 14 Nov 2023",
            "99:99",
            "Tue, 32 Nov 2023 22:13:27 GMT",
            "\x00",
            "Jan",
        ),
        "Tue, 14 Nov 2023 22:13:27 +99999999999999999999",
        "Tue, 14 Nov 99999 22:13:27 GMT",
    ],
)
def test_junk_is_ignored(junk: str) -> None:
    """What is neither seconds nor a date says nothing, and breaks nothing."""
    assert retry_after_ms(reply(429, retry_after=junk), NOW) is None
    assert 9_000 == retry_after_ms(
        Reply(status=429, headers={"retry-after": "9", "date": junk, "retry-after-ms": "-1"}, body=b""), NOW
    )


DATES = st.text("TueNov 14:2-,+GMTJand0369.", max_size=40) | st.from_regex(
    r"[A-Z][a-z]{2},? [0-9]{1,5}[ -]([A-Z][a-z]{2})[ -][0-9]{1,6} [0-9:]{1,9} ?([A-Z]{1,4}|[+-][0-9]{1,12})?",
    fullmatch=True,
)


@given(st.text() | DATES, st.text() | DATES)
def test_no_header_is_too_strange(said: str, date: str) -> None:
    """Whatever a provider writes, there is an answer, and it is no instant in the past."""
    found = retry_after_ms(reply(429, retry_after=said, date=date), NOW)
    assert found is None or found >= 0


SECONDS = st.integers(0, 86_400).map(str) | st.from_regex(r"[0-9]{1,4}\.[0-9]{1,9}", fullmatch=True)


@given(SECONDS, LUCK, st.sampled_from([429, 503, 408, 500]), st.integers(1, 12))
def test_retry_after_is_never_undershot(said: str, luck: float, status: int, attempts: int) -> None:
    """Whatever the luck, neither this call nor any other of the provider comes earlier than asked."""
    floor = NOW + Fraction(said) * 1000
    one = action(on_unknown="check")
    tried = Trial(provider=provider(one), action=one, call=call(attempts=attempts), now=NOW, luck=luck)
    verdict = judge(tried, reply(status, retry_after=said))

    assert isinstance(verdict.outcome, Retry | Unknown)
    assert floor <= verdict.outcome.at <= max(math.ceil(floor) + LONGEST_WAIT_MS // 10, NOW + CAP_MS)
    if status in {429, 503}:
        assert isinstance(verdict.signal, Throttled)
        assert floor <= verdict.signal.until


@given(st.integers(0, 86_400), LUCK)
def test_a_date_is_never_undershot(seconds: int, luck: float) -> None:
    """The same for dates, in the answer to a look, too."""
    when = datetime.fromtimestamp(NOW / 1000 + seconds, UTC)
    one = action(on_unknown="check", check=check())
    tried = Trial(provider=provider(one), action=one, call=call(tries=1), now=NOW, luck=luck)
    answer = reply(429, retry_after=format_datetime(when, usegmt=True))
    for judged in (judge, judge_look):
        outcome = judged(tried, answer).outcome
        assert isinstance(outcome, Retry | Unknown)
        assert outcome.at >= NOW + seconds * 1000


def test_a_success_owes_no_wait() -> None:
    """X-Pkg says Retry-After with every answer, 204 included: that is no request to wait."""
    one = action()
    tried = Trial(provider=provider(one), action=one, call=call(), now=NOW, luck=1.0)
    verdict = judge(tried, reply(204, retry_after="7.513"))
    assert isinstance(verdict.outcome, Done)
    assert not isinstance(verdict.signal, Throttled)


@pytest.mark.parametrize("status", [429, 503])
def test_more_than_a_day_is_too_long(status: int) -> None:
    """Who asks for more than a day is not called again by itself."""
    one = action()
    tried = Trial(provider=provider(one), action=one, call=call(), now=NOW, luck=1.0)
    assert isinstance(judge(tried, reply(status, retry_after="86400")).outcome, Retry)
    assert "more than a day" in judge(tried, reply(status, retry_after="86401")).outcome.why


def test_the_clock_of_these_tests() -> None:
    """NOW is the date that the tables are written against."""
    assert HTTP_NOW == format_datetime(datetime.fromtimestamp(NOW / 1000, UTC), usegmt=True)
