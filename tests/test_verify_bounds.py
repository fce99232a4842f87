"""What may a stranger make relay do?  Whoever can post costs little before any proof, and holds nobody up."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from build import NOW, incoming, rule, ruleset, source
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.errors import Rejected
from relay.event import Trust
from relay.form import MOST_FIELDS
from relay.intake import INLINE, Intake
from relay.keep import Keeper
from relay.reload import InForce
from relay.secret import Secret
from relay.sign import sign
from relay.source import Incoming, Source
from relay.verify import Flaw, verify
from relay.verify.spell import write

FORM = {"content-type": "application/x-www-form-urlencoded"}
TWILIO = source(
    verify="twilio",
    header="x-twilio-signature",
    secrets=(Secret("12345678901234567890", "env:T"),),
    public_url="https://relay.example/hooks/twilio",
)


@pytest.mark.parametrize(
    ("expected", "fields"),
    [(Trust.VERIFIED, MOST_FIELDS), (Flaw.MALFORMED, MOST_FIELDS + 1), (Flaw.MALFORMED, 350_000)],
)
def test_a_form_of_many_fields_is_not_taken_apart(expected: Trust | Flaw, fields: int) -> None:
    """Twilio's forms have some dozens of fields; a body of nothing but & is counted, and no more."""
    body = b"&".join([b"a="] * fields)
    few = sign(TWILIO, incoming(b"a=", FORM), NOW)
    # A name that stands twice with the same value counts once, so that the signature is the same.
    proof = verify(TWILIO, replace(few, body=body), NOW)

    assert expected is (proof.flaw or proof.trust)


@pytest.mark.parametrize(
    ("expected", "right", "junk"),
    [(Trust.VERIFIED, 1, 3), (Trust.VERIFIED, 4, 0), (Flaw.MALFORMED, 1, 4), (Flaw.MALFORMED, 5, 0)],
)
def test_few_signatures_are_tried_by_a_public_key(expected: Trust | Flaw, right: int, junk: int) -> None:
    """Each costs a hundred times as much as an HMAC: four of them, whatever else stands in the list."""
    private = Ed25519PrivateKey.generate()
    of = source(
        verify="ed25519",
        header="webhook-signature",
        prefix="",
        format="list",
        field="v1a",
        encoding="base64",
        item_separator=" ",
        key_separator=",",
        key_encoding="base64",
        secrets=(Secret(write(private.public_key().public_bytes_raw(), "base64"), "env:PUBLIC"),),
    )
    shown = [write(private.sign(b"{}"), "base64")] * right + [write(bytes(64), "base64")] * junk
    listed = " ".join([*(f"v1a,{one}" for one in shown), *["v1,x"] * 8])
    proof = verify(of, incoming(b"{}", {"webhook-signature": listed}), NOW)

    assert expected is (proof.flaw or proof.trust)


class Watched(dict[str, tuple[str, ...]]):
    """Headers that note which threads ask for them."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a header, as a dict does."""
        self.threads.add(threading.get_ident())
        return super().get(key, default)


@pytest.mark.parametrize("of", [source(), TWILIO], ids=["hmac", "twilio"])
@pytest.mark.parametrize(("size", "here"), [(INLINE, True), (INLINE + 1, False)])
def test_a_long_body_does_not_hold_others_up(of: Source, size: int, *, here: bool) -> None:
    """It is hashed and read in a thread, so that the loop goes on; a short one is not worth that."""
    shown = Watched()
    rules = replace(ruleset(rule()), sources={of.name: of})
    intake = Intake(InForce(rules), cast(Keeper, None), lambda: None, lambda: NOW)

    async def take(headers: Mapping[str, tuple[str, ...]]) -> None:
        with pytest.raises(Rejected):
            await intake.take(of.name, Incoming(headers=headers, body=b"x" * size))

    asyncio.run(take(shown))

    assert here is (shown.threads == {threading.get_ident()})
    assert shown.threads
