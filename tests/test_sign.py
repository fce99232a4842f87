"""How would a sender sign this?  What `sign` makes is what providers and their libraries make."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from build import NOW, incoming, source
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from vectors import PUBLISHED, Published

from relay.errors import Unfit
from relay.event import Trust
from relay.secret import Secret
from relay.sign import sign
from relay.source import Incoming, Source
from relay.verify import verify

HELLO = b"Hello, World!"
SECRET_ONES = [one for one in PUBLISHED if one.keys["verify"] in {"hmac", "twilio"}]


@pytest.mark.parametrize("one", SECRET_ONES, ids=lambda one: one.name)
def test_published_signatures_are_made_alike(one: Published) -> None:
    """What was published is made to the letter from its delivery, its secret and its time."""
    header = one.keys["header"]
    bare = {name: values for name, values in one.incoming.headers.items() if name != header}
    (published,) = one.incoming.headers[header]
    made = sign(one.source(), replace(one.incoming, headers=bare), one.now)

    (shown,) = made.headers[header]
    if one.name.startswith("sanity"):  # their times have milliseconds, and the file's are seconds
        assert Trust.VERIFIED is verify(one.source(), made, one.now).trust
    else:
        assert shown in {published, published.split(",")[-1], published.split(" ")[-1]}
        assert replace(made, headers=bare) == replace(one.incoming, headers=bare)


def keys() -> dict[str, tuple[bytes, str, str]]:
    """Return per way a private key in PEM, and the public one as it is given to a source."""
    edwards, curve = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    raw = edwards.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    der = curve.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "ed25519": (pem(edwards), raw.hex(), "hex"),
        "ecdsa-p256": (pem(curve), base64.b64encode(der).decode(), "base64"),
    }


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


KEYS = keys()


def public(way: str, **more: Any) -> Source:
    """Return a source with the public key of *way*."""
    _, text, spelt = KEYS[way]
    given = {
        "verify": way,
        "header": "x-signature",
        "prefix": "",
        "encoding": "base64",
        "key_encoding": spelt,
    }
    return source(**given | {"secrets": (Secret(text, "env:PUBLIC"),)} | more)


@pytest.mark.parametrize("way", KEYS)
@pytest.mark.parametrize("form", ["plain", "list"])
def test_a_private_key_signs(way: str, form: str) -> None:
    """Where a source holds public keys, the private one makes what it believes."""
    of = public(way, format=form, field="v1a", signed="{timestamp}{body}", timestamp="header:x-timestamp")
    sent = sign(of, incoming(HELLO), NOW, KEYS[way][0])
    proof = verify(of, sent, NOW)

    assert (Trust.VERIFIED, "env:PUBLIC") == (proof.trust, proof.by)
    assert Trust.FAILED is verify(of, replace(sent, body=b"other"), NOW).trust


def test_what_can_not_be_signed_is_told() -> None:
    """A key that is missing, of another kind or no key at all is Unfit, with a text that says so."""
    edwards, curve = KEYS["ed25519"][0], KEYS["ecdsa-p256"][0]
    other = pem(ec.generate_private_key(ec.SECP384R1()))
    table: list[tuple[Source, bytes | None, str]] = [
        (public("ed25519"), None, "github holds public keys (ed25519): to sign takes a private key"),
        (public("ed25519"), curve, "another kind"),
        (public("ecdsa-p256"), edwards, "another kind"),
        (public("ecdsa-p256"), other, "another curve"),
        (public("ecdsa-p256"), pem(rsa.generate_private_key(65537, 2048)), "another kind"),
        (public("ecdsa-p256"), b"no key", "no private key in PEM"),
        (source(secrets=()), None, "no secret to sign with"),
        (Source(name="none"), None, "no secret to sign with"),
        (source(key_encoding="hex"), None, "the secret is no key: not hex"),
        (source(verify="twilio"), None, "what Twilio signs can't be read from this delivery"),
        (source(signed="{url}{body}"), None, "what is signed can't be read from this delivery"),
        (source(timestamp="body:sent"), None, "sent must stand in the body"),
    ]
    for of, key, why in table:
        with pytest.raises(Unfit) as caught:
            sign(of, incoming(HELLO), NOW, key)
        assert why in str(caught.value)
        assert all(secret.reveal() not in str(caught.value) for secret in of.secrets())


def test_a_body_without_room_is_told() -> None:
    """A list has no members: nothing is put there, and nothing is lost."""
    with pytest.raises(Unfit, match="no room"):
        sign(source(timestamp="body:a.b"), incoming(b"[1]"), NOW)
    with pytest.raises(Unfit, match="no room"):
        sign(source(timestamp="body:a.b"), incoming(b'{"a": 1}'), NOW)


def test_an_open_source_signs_nothing() -> None:
    """Where anyone may post there is nothing to show."""
    sent = incoming(HELLO)
    assert sent is sign(Source(name="any", open=True), sent, NOW)


def test_of_several_ways_the_first_that_can() -> None:
    """A key is for public ones; without, it is the first way that has a secret."""
    secret = source(secrets=(Secret("whsec_x", "env:S"),)).ways[0]
    of = Source(name="both", ways=(replace(secret, secrets=()), *public("ed25519").ways, secret))

    assert ["x-hub-signature-256"] == list(sign(of, incoming(HELLO), NOW).headers)
    assert ["x-signature"] == list(sign(of, incoming(HELLO), NOW, KEYS["ed25519"][0]).headers)


def test_what_is_missing_is_made_up() -> None:
    """An id that is signed, and a time: what a sender would bring, the same for the same delivery."""
    of = source(signed="{header:x-id}.{timestamp}.{body}", timestamp="header:x-at")
    one, again, later = (sign(of, incoming(HELLO), now) for now in (NOW, NOW, NOW + 1))
    assert one.headers == again.headers
    assert one.headers["x-id"] != later.headers["x-id"]
    assert ("1700000000",) == one.headers["x-at"]
    given = sign(of, incoming(HELLO, {"x-id": "mine", "x-at": "1"}), NOW)
    assert (("mine",), ("1700000000",)) == (given.headers["x-id"], given.headers["x-at"])


@pytest.mark.parametrize(
    ("unit", "body", "expected"),
    [
        ("ms", b'{"at":1699999999000}', b'{"at":1699999999000}'),
        ("ms", b'{"at":5}', b'{"at":1700000000000}'),
        ("ms", b'{"at":"5"}', b'{"at":"1700000000000"}'),
        ("s", b"{}", b'{"at":1700000000}'),
        ("iso", b'{"at":5}', b'{"at":"2023-11-14T22:13:20.000Z"}'),
    ],
)
def test_an_old_time_in_the_body_becomes_now(unit: str, body: bytes, expected: bytes) -> None:
    """A sample that is years old would be refused; one of now is left as it is, to the byte."""
    of = source(timestamp="body:at", timestamp_unit=unit)
    sent = sign(of, incoming(body), NOW)

    assert expected == sent.body
    assert Trust.VERIFIED is verify(of, sent, NOW).trust


# -- Twilio --

TWILIO = source(
    verify="twilio", header="x-twilio-signature", prefix="", public_url="https://relay.example/hooks/twilio",
    secrets=(Secret("an auth token of Twilio", "env:TWILIO"),),
)  # fmt: skip
FORM = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}


def by_hand(text: bytes) -> str:
    """Sign as Twilio's page says."""
    return base64.b64encode(hmac.digest(b"an auth token of Twilio", text, "sha1")).decode()


def test_twilios_form_is_signed_field_by_field() -> None:
    """Sorted names with their values behind the address; a value that stands twice counts once."""
    sent = sign(TWILIO, incoming(b"b=2&a=1&b=1+x&b=2&c=&d=%C3%BC", FORM, query="x=%20"), NOW)
    text = "https://relay.example/hooks/twilio?x=%20a1b1 xb2cdü".encode()

    assert (by_hand(text),) == sent.headers["x-twilio-signature"]
    proof = verify(TWILIO, sent, NOW)
    assert (Trust.VERIFIED, text, "env:TWILIO") == (proof.trust, proof.signed, proof.by)


def test_twilios_json_is_signed_by_its_hash() -> None:
    """The address holds the body's SHA-256, which is added where it is missing."""
    body = json.dumps({"a": 1}).encode()
    sent = sign(TWILIO, incoming(body, {"content-type": "application/json"}, query="x=1"), NOW)

    assert f"x=1&bodySHA256={hashlib.sha256(body).hexdigest()}" == sent.query
    assert Trust.VERIFIED is verify(TWILIO, sent, NOW).trust


def test_twilios_signature_is_of_no_use_for_another_body() -> None:
    """Neither an empty form nor another type, a second hash or another escape gets a body past it."""
    body = b'{"a": 1}'
    sent = sign(TWILIO, incoming(body, {"content-type": "application/json"}), NOW)
    form = sign(TWILIO, incoming(b"a=%2B1", FORM), NOW)
    others: list[Incoming] = [
        replace(sent, body=b""),
        replace(sent, body=b"", headers={**sent.headers, "content-type": (FORM["content-type"],)}),
        replace(sent, body=b'{"a": 2}'),
        replace(sent, query=f"{sent.query}&{sent.query}"),
        replace(sent, query=""),
        replace(form, body=b"a=%2b1"),
        replace(form, body=b"a=%2B1&"),
        replace(form, body=b"a=%2B1&a"),
        replace(form, body=b"a=%2B2"),
        replace(form, body=b"a=%2"),
        replace(form, headers={**form.headers, "content-type": ("application/json",)}),
        replace(form, headers={**form.headers, "content-type": (FORM["content-type"],) * 2}),
        replace(form, query="x=1"),
    ]
    assert Trust.VERIFIED is verify(TWILIO, sent, NOW).trust
    assert Trust.VERIFIED is verify(TWILIO, form, NOW).trust
    assert [Trust.FAILED] * len(others) == [verify(TWILIO, other, NOW).trust for other in others]
