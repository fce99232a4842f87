"""Several signatures, several secrets, and several ways to write them into one header."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from build import NOW, incoming, source

from relay.event import Trust
from relay.secret import Secret
from relay.sign import sign
from relay.source import Incoming, Source
from relay.verify import Flaw, Proof, verify

BODY = b'{"test": 2432232314}'
HEADER = "webhook-signature"
SECRETS = {
    name: Secret(f"the {name} secret, of a good length", f"env:{name.upper()}") for name in ("old", "new")
}


def listed(*names: str, **more: Any) -> Source:
    """Return a source whose signatures stand in a list, by the secrets of these *names*."""
    given: dict[str, Any] = {
        "header": HEADER,
        "prefix": "",
        "format": "list",
        "field": "v1",
        "encoding": "base64",
        "item_separator": " ",
        "key_separator": ",",
    }
    return source(**given | {"secrets": tuple(SECRETS[name] for name in names)} | more)


def item(name: str) -> str:
    """Return the item that the secret *name* makes."""
    return sign(listed(name), incoming(BODY), NOW).headers[HEADER][0]


def tried(of: Source, shown: str, body: bytes = BODY) -> Proof:
    return verify(of, incoming(body, {HEADER: shown}), NOW)


JUNK = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("held", [("old",), ("new",), ("old", "new"), ("new", "old")], ids="+".join)
@pytest.mark.parametrize("signed", [("old",), ("new",), ("old", "new"), ("new", "old")], ids="+".join)
@pytest.mark.parametrize("junk", [0, 1, 14, 15, 16, 17])
@pytest.mark.parametrize("first", [True, False])
def test_rotation(held: tuple[str, ...], signed: tuple[str, ...], junk: int, *, first: bool) -> None:
    """Whoever of both is new first: one right signature by one held secret is enough, among at most 16."""
    right, wrong = [item(name) for name in signed], [JUNK] * junk
    proof = tried(listed(*held), " ".join([*wrong, *right] if first else [*right, *wrong]))

    if len(right) + junk > 16:
        assert (Trust.FAILED, Flaw.MALFORMED) == (proof.trust, proof.flaw)
    elif set(held) & set(signed):
        assert Trust.VERIFIED is proof.trust
        assert proof.by in {SECRETS[name].origin for name in set(held) & set(signed)}
    else:
        assert (Trust.FAILED, Flaw.WRONG) == (proof.trust, proof.flaw)


def test_the_first_secret_that_is_right_is_named() -> None:
    """The log says which secret is still in use, by where it is from."""
    assert "env:OLD" == tried(listed("new", "old"), item("old")).by
    assert "env:NEW" == tried(listed("new", "old"), f"{item('old')} {item('new')}").by
    assert "" == tried(listed("new"), item("old")).by


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        (Trust.VERIFIED, "{}"),
        (Trust.VERIFIED, "v2,abc {}"),
        (Trust.VERIFIED, "v1a,abc {} ,x"),
        (Trust.VERIFIED, "v1,not/base64 {}"),
        (Trust.VERIFIED, "v1, {}"),
        (Flaw.MALFORMED, "{} "),
        (Flaw.MALFORMED, " {}"),
        (Flaw.MALFORMED, "{} {} x"),
        (Flaw.MALFORMED, "x {}"),
        (Flaw.MALFORMED, "{}\n"),
        (Flaw.MALFORMED, "v1,not/base64"),
        (Flaw.MALFORMED, "v1"),
        (Flaw.MALFORMED, "{}" + " v2,x" * 16),
        (Flaw.MALFORMED, "{} v2," + "x" * 8_200),
        (Flaw.MISSING, "v2,abc"),
        (Flaw.MISSING, "V1,abc"),
        (Flaw.MISSING, ""),
        (Flaw.MALFORMED, "{},"),
        (Flaw.MALFORMED, "v1={}"),
    ],
)
def test_unknown_items_are_skipped_and_broken_ones_are_not(expected: Trust | Flaw, shown: str) -> None:
    """A later version of a scheme is no error; an item without its separator refuses them all."""
    text = shown.format(*[item("new")] * 2) if not shown.startswith("v1=") else shown.format(JUNK[3:])
    proof = tried(listed("new"), text)

    assert expected is (proof.flaw or proof.trust)


@pytest.mark.parametrize(
    ("between", "inside"), [(",", "="), (" ", ","), ("; ", ":"), ("&", "="), ("|", ":=")]
)
def test_any_separators_will_do(between: str, inside: str) -> None:
    """The file says what stands between items, and what inside of one."""
    of = listed(
        "new", item_separator=between, key_separator=inside, signed="{timestamp}{body}", timestamp="field:t"
    )
    sent = sign(of, incoming(BODY), NOW)

    assert sent.headers[HEADER][0].startswith(f"t{inside}1700000000{between}v1{inside}")
    assert Trust.VERIFIED is verify(of, sent, NOW).trust


SCHEMES: dict[str, dict[str, Any]] = {
    "sha256": {},
    "sha512": {"algorithm": "sha512"},
    "sha1": {"algorithm": "sha1"},
    "url": {"signed": "{url}{body}", "public_url": "https://relay.example/hooks/x"},
    "method": {"signed": "{method}\n{body}"},
    "headers": {"signed": "{header:X-Id}.{header:x-when}.{body}"},
    "members": {"signed": "{body:test}:{body}"},
    "text": {"signed": "v0:{{{body}}}"},
}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("place", ["list", "plain"])
def test_whatever_is_signed_is_covered(name: str, place: str) -> None:
    """A change of any part of what is signed is seen, and what is signed is told to the byte."""
    of = listed("new", format=place, **SCHEMES[name])
    sent = sign(of, incoming(BODY, query="a=1"), NOW)
    proof = verify(of, sent, NOW)
    values = {key: value[0] for key, value in sent.headers.items()}
    expected = {
        "url": b"https://relay.example/hooks/x?a=1" + BODY,
        "method": b"POST\n" + BODY,
        "headers": f"{values.get('x-id')}.{values.get('x-when')}.".encode() + BODY,
        "members": b"2432232314:" + BODY,
        "text": b"v0:{" + BODY + b"}",
    }
    assert (Trust.VERIFIED, expected.get(name, BODY)) == (proof.trust, proof.signed)

    others: list[Incoming] = [replace(sent, body=BODY + b" ")]
    others += [replace(sent, query="a=2"), replace(sent, query="")] if name == "url" else []
    others += [replace(sent, method="PUT")] if name == "method" else []
    for header in ("x-id", "x-when") if name == "headers" else ():
        others += [replace(sent, headers=sent.headers | {header: ("other",)})]  # type: ignore[operator]
        doubled = {**sent.headers, header: sent.headers[header] * 2}
        assert Flaw.DOUBLED is verify(of, replace(sent, headers=doubled), NOW).flaw
        without = {key: value for key, value in sent.headers.items() if key != header}
        assert Flaw.MISSING is verify(of, replace(sent, headers=without), NOW).flaw
    assert [Flaw.WRONG] * len(others) == [verify(of, other, NOW).flaw for other in others]


def test_an_address_that_is_signed_is_never_the_senders_word() -> None:
    """Without its public address a source believes nobody, whatever Host says."""
    of = listed("new", signed="{url}{body}")
    sent = sign(
        replace(of, ways=tuple(replace(way, signed="{body}") for way in of.ways)), incoming(BODY), NOW
    )
    assert Flaw.WRONG is verify(of, sent, NOW).flaw


MAILGUN: dict[str, Any] = {
    "place": "body",
    "field": "signature.signature",
    "prefix": "",
    "signed": "{timestamp}{body:signature.token}",
    "timestamp": "body:signature.timestamp",
}


def test_a_signature_in_the_body() -> None:
    """Mailgun signs a time and a token, and not the event: this is known of the sender, not of the body."""
    of = source(secrets=(Secret("a key of Mailgun's", "env:MAILGUN"),), **MAILGUN)
    sent = sign(of, incoming(b'{"signature": {"token": "abc", "timestamp": "1"}, "event": "failed"}'), NOW)
    proof = verify(of, sent, NOW)

    assert (Trust.AUTHENTICATED, b"1700000000abc") == (proof.trust, proof.signed)
    assert b'"timestamp":"1700000000"' in sent.body
    assert (
        Trust.AUTHENTICATED is verify(of, replace(sent, body=sent.body.replace(b"failed", b"ok")), NOW).trust
    )
    for old, new, flaw in (
        (b"abc", b"abd", Flaw.WRONG),
        (b"1700000000", b"1700000001", Flaw.WRONG),
        (b'"token"', b'"tokem"', Flaw.MISSING),
        (b'"signature":"', b'"signature":"0', Flaw.MALFORMED),
        (b"{", b"", Flaw.MALFORMED),
        (b'"event"', b'"signature"', Flaw.MALFORMED),
    ):
        assert flaw is verify(of, replace(sent, body=sent.body.replace(old, new, 1)), NOW).flaw


def test_every_combination_signs_and_verifies() -> None:
    """Format, encoding, hash, key and place of the time go together in every way."""
    for form, encoding, algorithm, spelt, where in product(
        ("plain", "list"),
        ("hex", "any-case-hex", "base64", "base64url"),
        ("sha256", "sha512", "sha1"),
        (("utf8", "", "a secret of some length"), ("base64", "whsec_", "whsec_MfKQ9r8GKYqrTwjUPD8ILA=="),
         ("hex", "", "00112233445566778899AABBCCDDEEFF")),
        ("", "header:x-time", "field:t"),
    ):  # fmt: skip
        if where.startswith("field") and form == "plain":
            continue
        of = source(
            format=form, encoding=encoding, algorithm=algorithm,
            key_encoding=spelt[0], strip_key_prefix=spelt[1],
            secrets=(Secret(spelt[2], "env:X"),), timestamp=where, field="v1",
            signed="{timestamp}{body}" if where else "{body}",
        )  # fmt: skip
        assert Trust.VERIFIED is verify(of, sign(of, incoming(BODY), NOW), NOW).trust
