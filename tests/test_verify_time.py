"""When was this signed?  Timestamps in headers, lists and bodies, and how far they may be from now."""

import hmac
from dataclasses import replace
from typing import Any

import orjson
import pytest
from build import NOW, incoming, source

from relay.event import Millis, Trust
from relay.sign import sign
from relay.source import Source
from relay.verify import Flaw, verify
from relay.verify.stamp import nanos

SECOND = 1_000
TOLERANCE = 300 * SECOND

PLACES: dict[str, dict[str, Any]] = {
    "header": {"signed": "{timestamp}.{body}", "timestamp": "header:X-Timestamp", "prefix": ""},
    "list": {
        "signed": "{timestamp}.{body}",
        "timestamp": "field:t",
        "format": "list",
        "field": "v1",
        "prefix": "",
    },
    "body": {"timestamp": "body:sent.at"},
}
BODY = orjson.dumps({"sent": {"by": "us"}})


def signed(of: Source, at: Millis) -> Trust | Flaw:
    """Sign a delivery at *at*, and verify it at NOW."""
    proof = verify(of, sign(of, incoming(BODY), at), NOW)
    return proof.flaw or proof.trust


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("unit", ["s", "ms", "iso"])
@pytest.mark.parametrize(
    ("away", "expected"),
    [
        (-TOLERANCE - SECOND, Flaw.OLD),
        (-TOLERANCE, Trust.VERIFIED),
        (0, Trust.VERIFIED),
        (TOLERANCE, Trust.VERIFIED),
        (TOLERANCE + SECOND, Flaw.EARLY),
    ],
)
def test_the_edges_of_the_tolerance(place: str, unit: str, away: Millis, expected: Trust | Flaw) -> None:
    """At exactly the tolerance a delivery is taken, on both sides; a second more, and it is not."""
    assert expected is signed(source(timestamp_unit=unit, **PLACES[place]), NOW + away)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("unit", ["ms", "iso"])
def test_the_edges_to_the_millisecond(place: str, unit: str) -> None:
    """Where a sender writes milliseconds, one of them counts."""
    of = source(timestamp_unit=unit, **PLACES[place])
    away = [-TOLERANCE - 1, -TOLERANCE, TOLERANCE, TOLERANCE + 1]
    assert [Flaw.OLD, Trust.VERIFIED, Trust.VERIFIED, Flaw.EARLY] == [signed(of, NOW + by) for by in away]


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1700000000", "s", 1_700_000_000 * 10**9),
        ("0", "s", 0),
        ("0001700000000", "s", 1_700_000_000 * 10**9),
        ("1700000000123", "ms", 1_700_000_000_123 * 10**6),
        ("2023-11-14T22:13:20Z", "iso", 1_700_000_000 * 10**9),
        ("2023-11-14t22:13:20z", "iso", 1_700_000_000 * 10**9),
        ("2023-11-14T23:13:20+01:00", "iso", 1_700_000_000 * 10**9),
        ("2023-11-14T22:13:20.5Z", "iso", 1_700_000_000 * 10**9 + 500_000_000),
        ("2023-11-14T22:13:20.634234626Z", "iso", 1_700_000_000 * 10**9 + 634_234_626),
        ("1969-12-31T23:59:59.5Z", "iso", -500_000_000),
    ],
)
def test_a_time_means_an_instant(text: str, unit: str, expected: int) -> None:
    """Seconds, milliseconds and RFC 3339, as far as nanoseconds, which Twitch sends."""
    assert expected == nanos(text, unit)


ODD = [
    *("", " ", " 1700000000", "1700000000 ", "1700000000\n", "1700000000.0", "1_700_000_000", "+1700000000"),
    *("-1", "0x6553f100", "17e8", "1700000000L", "17000000001700", "9" * 30, "nan", "inf", "None", "abc"),
    "\u0661\u0667\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660",
    "\uff11\uff17\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10",
    "1700000000,1700000000",
    "\u00b2" * 10,
]
ODD_ISO = [
    *("", "2023-11-14", "2023-11-14T22:13:20", "2023-11-14 22:13:20Z", "20231114T221320Z", "1700000000"),
    *(
        "2023-11-14T22:13Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20.1234567890Z",
        "2023-11-14T25:13:20Z",
    ),
    *("2023-02-30T22:13:20Z", "2023-11-14T22:13:20+0100", "2023-11-14T22:13:20Z ", "2023-W46-2T22:13:20Z"),
    *("2023-11-14T22:13:20,5Z", "2023-11-14T22:13:60Z", "0000-11-14T22:13:20Z", "+2023-11-14T22:13:20Z"),
    *("2023-11-14T22:13:20+24:00", "0001-01-01T00:00:00+23:59X", "\u0662023-11-14T22:13:20Z"),
]


@pytest.mark.parametrize(("unit", "texts"), [("s", ODD), ("ms", ODD), ("iso", ODD_ISO)])
def test_odd_times_mean_nothing(unit: str, texts: list[str]) -> None:
    """Whatever another reader would make of it: it is digits of ASCII, or it is RFC 3339."""
    assert [None] * len(texts) == [nanos(text, unit) for text in texts]


@pytest.mark.parametrize(
    ("unit", "text"),
    [*(("s", one) for one in ODD), *(("ms", one) for one in ODD), *(("iso", one) for one in ODD_ISO)],
)
def test_an_odd_time_is_refused_though_it_is_signed(unit: str, text: str) -> None:
    """The right secret over an odd timestamp is not enough, and nothing is raised."""
    of = source(timestamp_unit=unit, **PLACES["header"])
    digest = hmac.digest(
        of.secrets()[0].reveal().encode(), text.encode("latin-1", "replace") + b"." + BODY, "sha256"
    )
    sent = incoming(BODY, {"x-timestamp": text, "x-hub-signature-256": digest.hex()})

    assert verify(of, sent, NOW).flaw in {Flaw.MALFORMED, Flaw.MISSING}


def test_times_of_the_edge_of_the_calendar() -> None:
    """The first and the last year that can be written are no traceback."""
    for text in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999999Z"):
        nanos(text, "iso")


def test_a_doubled_time_is_refused() -> None:
    """In headers as in lists; two that are the same, too."""
    of = source(**PLACES["header"])
    sent = sign(of, incoming(BODY), NOW)
    twice = replace(sent, headers={**sent.headers, "x-timestamp": sent.headers["x-timestamp"] * 2})
    assert Flaw.DOUBLED is verify(of, twice, NOW).flaw

    of = source(**PLACES["list"])
    (text,) = sign(of, incoming(BODY), NOW).headers["x-hub-signature-256"]
    again = incoming(BODY, {"x-hub-signature-256": f"t=1700000000,{text}"})
    assert Flaw.DOUBLED is verify(of, again, NOW).flaw


def test_a_missing_time_is_refused() -> None:
    """A signature without its time is none."""
    of = source(**PLACES["header"])
    sent = sign(of, incoming(BODY), NOW)
    bare = {name: values for name, values in sent.headers.items() if name != "x-timestamp"}
    assert Flaw.MISSING is verify(of, replace(sent, headers=bare), NOW).flaw

    of = source(**PLACES["list"])
    (text,) = sign(of, incoming(BODY), NOW).headers["x-hub-signature-256"]
    assert Flaw.MISSING is verify(of, incoming(BODY, {of.ways[0].header: text.partition(",")[2]}), NOW).flaw

    of, bare_source = source(**PLACES["body"]), source()
    for body in (BODY, b"[]", b"{}", b'{"sent":{"at":true}}', b'{"sent":{"at":1.7e9}}', b"no json"):
        proof = verify(of, sign(bare_source, incoming(body), NOW), NOW)
        assert proof.flaw in {Flaw.MISSING, Flaw.MALFORMED}


def test_a_forged_time_is_no_old_one() -> None:
    """Old is said of what was signed long ago, and wrong of what was not signed."""
    of = source(**PLACES["header"])
    sent = sign(of, incoming(BODY), NOW - 10 * TOLERANCE)
    assert Flaw.OLD is verify(of, sent, NOW).flaw
    forged = replace(sent, headers={**sent.headers, "x-timestamp": (str(NOW // 1000),)})
    assert Flaw.WRONG is verify(of, forged, NOW).flaw
