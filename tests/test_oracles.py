"""Do independent libraries and relay agree on which deliveries are right?  Both ways, and on altered ones."""

import time
from collections.abc import Iterator
from random import Random

import pytest
from deliveries import MESSAGES, Pair, altered, by_relay, message, relays, sent_at
from oracles import ORACLES

from relay.source import Incoming

NAMES = pytest.mark.parametrize("name", ORACLES)


def messages(name: str) -> Iterator[tuple[Random, Pair, Incoming, int]]:
    """Yield so many messages of an oracle's kind, each with its secret: the same ones at each run."""
    luck = Random(f"{name} and relay")
    for _ in range(MESSAGES):
        yield luck, ORACLES[name].kind.pair(luck), message(ORACLES[name].kind, luck), sent_at(luck)


# -- both ways --


@NAMES
def test_what_relay_signs_the_library_takes(name: str) -> None:
    """Whatever relay signs with a preset is right for that sender's own library."""
    wrong = [
        (pair, incoming)
        for _, pair, incoming, at in messages(name)
        if not ORACLES[name].accepts(pair, by_relay(ORACLES[name].kind, pair, incoming, at))
    ]

    assert [] == wrong[:3]


@NAMES
def test_what_the_library_signs_relay_takes(name: str) -> None:
    """Whatever the library signs is verified by the preset: the body, the time and the id."""
    wrong = [
        (pair, signed)
        for _, pair, incoming, at in messages(name)
        if not relays(ORACLES[name].kind, pair, signed := ORACLES[name].sign(pair, incoming, at))
    ]

    assert [] == wrong[:3]


@NAMES
def test_what_was_altered_nobody_takes(name: str) -> None:
    """A byte, a field, the time, the id, the signature or the secret: both refuse, whoever had signed."""
    oracle, taken, count = ORACLES[name], [], 0
    for luck, pair, incoming, at in messages(name):
        for right in (oracle.sign(pair, incoming, at), by_relay(ORACLES[name].kind, pair, incoming, at)):
            asked = [(pair, altered(luck, oracle.kind, right)), (oracle.kind.pair(luck), right)]
            taken += [
                (who, incoming)
                for other, incoming in asked
                for who, yes in (
                    ("relay", relays(ORACLES[name].kind, other, incoming)),
                    ("library", oracle.accepts(other, incoming)),
                )
                if yes
            ]
            count += len(asked)

    assert [] == taken[:3]
    assert 4 * MESSAGES == count


@NAMES
def test_a_time_that_is_too_far_is_refused(name: str) -> None:
    """Signed rightly, but seven minutes ago; where no time is signed, there is nothing to refuse."""
    luck, at = Random(name), int(time.time()) - 420
    pair = ORACLES[name].kind.pair(luck)
    old = ORACLES[name].sign(pair, message(ORACLES[name].kind, luck), at)

    both = (relays(ORACLES[name].kind, pair, old), ORACLES[name].accepts(pair, old))

    timeless = name == "twilio"
    # PyNaCl knows no times.
    assert (timeless, timeless or name.startswith("PyNaCl")) == both
