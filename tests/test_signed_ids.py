"""By which id is a delivery known?  By one that its proof covers, before any that a stranger could add."""

import asyncio
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
from build import NOW, incoming, rule, ruleset, source
from presets import at_work

from relay.event import Event, Trust
from relay.intake import Intake
from relay.keep import Keeper
from relay.reload import InForce
from relay.replay import again
from relay.sign import sign
from relay.source import Source
from relay.store import Recorded
from relay.unpack import unpack
from relay.verify import Proof, verify

BODY = b'{"type": "x", "id": "body-1"}'


def known(of: Source, signer: Source, headers: dict[str, str]) -> tuple[str | None, Proof]:
    """Sign a delivery, have it believed, and return the id by which it is known."""
    shown = sign(signer, incoming(BODY, headers), NOW)
    proof = verify(of, shown, NOW)
    assert Trust.VERIFIED is proof.trust
    (event,) = unpack(of, shown, proof.trust, NOW, proof.signed, proof.headers)
    return event.delivery, proof


@pytest.mark.parametrize(
    ("preset", "number", "expected", "headers"),
    [
        ("standard-webhooks", 0, "msg_w", {"webhook-id": "msg_w", "svix-id": "added"}),
        ("standard-webhooks", 2, "msg_s", {"webhook-id": "added", "svix-id": "msg_s"}),
        ("standard-webhooks", 2, "msg_s", {"svix-id": "msg_s"}),
        ("svix", 0, "msg_s", {"webhook-id": "added", "svix-id": "msg_s"}),
        ("svix", 1, "msg_w", {"webhook-id": "msg_w", "svix-id": "added"}),
        ("gitlab", 1, "msg_w", {"webhook-id": "msg_w", "idempotency-key": "added"}),
    ],
)
def test_an_id_that_is_signed_comes_first(
    tmp_path: Path, preset: str, number: int, expected: str, headers: dict[str, str]
) -> None:
    """Else whoever has seen a delivery could post it again under an id that he adds."""
    at = at_work(tmp_path, preset, number)

    assert expected == known(at.source, at.alone(), headers)[0]


SIGNED = {"signed": "{header:x-id}.{timestamp}.{body}", "timestamp": "header:x-time"}


@pytest.mark.parametrize(
    ("expected", "delivery", "headers"),
    [
        ("signed", ("header:x-other", "header:X-Id"), {}),
        ("body-1", ("body:id", "header:x-id"), {}),
        ("signed body-1", ("header:x-other", "header:x-id+body:id"), {}),
        ("signed", ("header:x-other+header:x-id", "header:x-id"), {}),
        ("1700000000", ("header:x-other", "header:x-time"), {}),
        ("other", ("header:x-other", "body:id"), {}),
        ("body-1", ("header:x-third", "body:id"), {}),
    ],
)
def test_only_headers_that_are_signed_count_where_some_are(
    expected: str, delivery: tuple[str, ...], headers: dict[str, str]
) -> None:
    """What the body says keeps its place; where no named header is signed, all of them count."""
    of = source(delivery=delivery, **SIGNED)

    assert expected == known(of, of, {"x-id": "signed", "x-other": "other", **headers})[0]


def test_a_proof_names_what_it_covers(tmp_path: Path) -> None:
    """The headers that stand in `signed`, and that of the time; a token covers none."""
    of = source(**SIGNED)
    assert frozenset({"x-id", "x-time"}) == known(of, of, {"x-id": "1"})[1].headers
    assert frozenset() == known(source(), source(), {"x-id": "1"})[1].headers

    at = at_work(tmp_path, "gitlab", 0)
    shown = sign(at.alone(), incoming(BODY, {"idempotency-key": "k", "webhook-id": "w"}), NOW)
    proof = verify(at.source, shown, NOW)
    (event,) = unpack(at.source, shown, proof.trust, NOW, proof.signed, proof.headers)
    assert (Trust.AUTHENTICATED, frozenset(), "k") == (proof.trust, proof.headers, event.delivery)


def test_what_is_kept_has_that_id(tmp_path: Path) -> None:
    """Intake keeps it so, and an event that is seen again by its rules is known as it was."""
    at = at_work(tmp_path, "standard-webhooks", 2)
    kept: list[Event] = []

    async def keep(_: Any, made: Any, **__: Any) -> tuple[Recorded, ...]:
        kept.extend(event for event, _ in made)
        return (Recorded(event=kept[0].id, duplicate=False),)

    rules = replace(ruleset(rule()), sources={at.source.name: at.source})
    intake = Intake(InForce(rules), cast(Keeper, keep), lambda: None, lambda: NOW)
    shown = sign(at.alone(), incoming(BODY, {"webhook-id": "added", "svix-id": "msg_s"}), NOW)
    asyncio.run(intake.take(at.source.name, shown))

    (event,) = kept
    assert "msg_s" == event.delivery
    row = {each.name: getattr(event, each.name) for each in fields(event)}
    assert replace(event, data=None) == replace(again(row, rules), data=None)
