"""Do published signatures hold, and nothing that differs from them in one bit?"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from vectors import PUBLISHED, Published, by_preset

from relay.event import Trust
from relay.source import Incoming, Source
from relay.verify import verify

SEVERAL = {"pagerduty", "standard-webhooks-v1-rotation"}
"""Lists with more than one signature: only the last is right, and changes elsewhere are no matter."""

UNSIGNED = "content-type"
HERE = Path(__file__).parent

named = pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.name)
both = pytest.mark.parametrize("by", [Published.source, by_preset], ids=["keys", "preset"])


def spots(one: Published, text: str) -> range:
    """Return where in a header, whose value is *text*, a change must be seen."""
    separator = one.keys.get("item_separator", ",")
    return range(text.rindex(separator) + 1 if one.name in SEVERAL and separator in text else 0, len(text))


def changed(one: Published, change: Callable[[bytes, int], Iterator[bytes]]) -> Iterator[Incoming]:
    """Yield the delivery with each change of each byte of its body, its headers and its query."""
    sent = one.incoming
    for at in range(len(sent.body)):
        yield from (replace(sent, body=body) for body in change(sent.body, at))
    for name, (text,) in sent.headers.items():
        for at in spots(one, text) if name != UNSIGNED else ():
            for other in change(text.encode(), at):
                yield replace(sent, headers={**sent.headers, name: (other.decode("latin-1"),)})
    for at in range(len(sent.query)):
        for other in change(sent.query.encode(), at):
            yield replace(sent, query=other.decode("latin-1"))


def flips(raw: bytes, at: int) -> Iterator[bytes]:
    """Yield *raw* with each bit of one byte changed."""
    for bit in range(8):
        yield raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


def slips(raw: bytes, at: int) -> Iterator[bytes]:
    """Yield *raw* without one byte, and with that byte twice."""
    yield raw[:at] + raw[at + 1 :]
    yield raw[: at + 1] + raw[at:]


def believed(source: Source, one: Published, several: Iterator[Incoming]) -> tuple[int, list[Incoming]]:
    """Count deliveries, and return those that are believed."""
    tried = [(incoming, verify(source, incoming, one.now).trust) for incoming in several]
    return len(tried), [incoming for incoming, trust in tried if trust is not Trust.FAILED]


@both
@named
def test_a_published_signature_holds(one: Published, by: Callable[[Published], Source]) -> None:
    """What a provider publishes is believed: by keys that say how, and by the preset that is shipped."""
    proof = verify(by(one), one.incoming, one.now)

    assert (Trust.VERIFIED, None, "env:0") == (proof.trust, proof.flaw, proof.by)
    assert proof.signed.endswith(one.incoming.body) or "twilio" in one.name


@both
@named
def test_no_bit_can_be_changed(one: Published, by: Callable[[Published], Source]) -> None:
    """One bit of a body, a signature, a timestamp, a signed header or address makes it nobody's."""
    _, accepted = believed(by(one), one, changed(one, flips))

    assert [] == accepted


@both
@named
def test_no_byte_can_go_or_come(one: Published, by: Callable[[Published], Source]) -> None:
    """So does a byte that is missing or stands twice."""
    _, accepted = believed(by(one), one, changed(one, slips))

    assert [] == accepted


def test_that_were_many_bits() -> None:
    """No vector is left out: some thousands of changes were refused, by each of the two."""
    tried = sum(believed(one.source(), one, changed(one, flips))[0] for one in PUBLISHED)

    assert 3_900 <= tried


@named
def test_another_secret_believes_nothing(one: Published) -> None:
    """The vectors hold by their secrets, and not by chance."""
    for other in ("", "another secret", one.secret + "A", one.secret[:-1]):
        assert Trust.FAILED is verify(one.source(other), one.incoming, one.now).trust


OPTIMISED = """
from dataclasses import replace
from vectors import PUBLISHED
from relay.verify import verify
for one in PUBLISHED:
    other = replace(one.incoming, body=one.incoming.body + b"!")
    print(one.name, *(verify(one.source(), sent, one.now).trust for sent in (one.incoming, other)))
"""


def test_without_asserts_it_is_the_same() -> None:
    """`python -O` leaves asserts out: none of them stands between a stranger and us."""
    done = subprocess.run(
        [sys.executable, "-O", "-c", OPTIMISED],
        env={"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert [f"{one.name} verified failed" for one in PUBLISHED] == done.stdout.splitlines()
