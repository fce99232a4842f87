"""Who is believed, and who is not: signatures, tokens and passwords, each in one spelling."""

import base64
from dataclasses import replace

import pytest
from build import NOW, incoming, source

from relay.event import Trust
from relay.secret import Secret
from relay.source import Encoding, Source, Way
from relay.verify import Flaw, best, verify, waste
from relay.verify.key import key
from relay.verify.spell import read, write

HELLO = b"Hello, World!"
HELLO_HEX = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""GitHub's documented vector."""

TOKEN = source(verify="token", header="authorization", prefix="Bearer ", secrets=(Secret("tok-en", "env:T"),))
PATH = source(verify="token", place="path", prefix="", secrets=(Secret("tok-en", "env:T"),))
BASIC = source(verify="basic", header="authorization", secrets=(Secret("Aladdin:open sesame", "env:P"),))


def tried(of: Source, shown: str | None, body: bytes = HELLO, token: str = "") -> Trust | Flaw:
    """Post *shown* in the header of the source's first way."""
    headers = {} if shown is None else {of.ways[0].header: shown}
    proof = verify(of, incoming(body, headers, token=token), NOW)
    assert (proof.flaw is None) == (proof.trust is not Trust.FAILED)
    return proof.flaw or proof.trust


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        (Trust.VERIFIED, f"sha256={HELLO_HEX}"),
        (Flaw.MISSING, None),
        (Flaw.MISSING, ""),
        (Flaw.MALFORMED, HELLO_HEX),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX.upper()}"),
        (Flaw.MALFORMED, f"SHA256={HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha1={HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX[:-1]}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX[:-1]}g"),
        (Flaw.MALFORMED, f"sha256= {HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX} "),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX}\n"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX},sha256={HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX[:-2]}\uff14\uff12"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX}" + " " * 8_200),
        (Flaw.WRONG, f"sha256={HELLO_HEX[:-2]}"),
        (Flaw.WRONG, "sha256="),
        (Flaw.WRONG, f"sha256={HELLO_HEX}00"),
    ],
)
def test_only_the_whole_signature_will_do(expected: Trust | Flaw, shown: str | None) -> None:
    """Anything missing, more or otherwise spelled is refused with its reason."""
    assert expected is tried(source(), shown)


@pytest.mark.parametrize(
    ("encoding", "right", "wrong"),
    [
        ("hex", "00ff", ["00FF", "00fF", "0ff", "00f", "00ff ", " 00ff", "0x00ff", "00 ff", "\uff100ff"]),
        ("any-case-hex", "00ff", ["0ff", "00ff ", "00-ff", "\uff100ff"]),
        ("any-case-hex", "00FF", ["00GG"]),
        ("any-case-hex", "00Ff", ["\u212a0ff"]),
        ("base64", "+/8=", ["+/8", "+/9=", "+/+=", "-_8=", "+/8==", "+/8=\n", "+ /8=", " +/8=", "+/8=A"]),
        ("base64", "AA==", ["AA=", "AA", "AB==", "AP==", "AA===", "A===", "AAA=="]),
        ("base64url", "-_8", ["-_8=", "-_9", "+/8", "-_8 ", "-_8\n", "-_-", "-_8A=", "-"]),
    ],
)
def test_the_same_bytes_have_one_spelling(encoding: Encoding, right: str, wrong: list[str]) -> None:
    """Spare bits, padding, white space, another alphabet and large letters are no other way to write it."""
    raw = read(right, encoding)
    assert raw is not None
    assert write(raw, encoding) == (right.lower() if encoding == "any-case-hex" else right)
    assert [None] * len(wrong) == [read(text, encoding) for text in wrong]


def test_spare_bits_of_a_right_signature() -> None:
    """The signature in any of its 63 neighbours' spellings is refused, though its bytes would be the same."""
    raw = base64.b64decode("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    of = source(encoding="base64", prefix="", secrets=(Secret("k" * 16, "env:K"),))
    text = base64.b64encode(raw).decode()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    same = [f"{text[:-2]}{last}=" for last in alphabet if base64.b64decode(f"{text[:-2]}{last}=") == raw]
    assert 4 == len(same)
    assert [Flaw.MALFORMED] * 3 == [tried(of, one) for one in same if one != text]


def test_a_doubled_header_is_refused() -> None:
    """Two signatures, even two right ones, are an attempt to be read in two ways."""
    twice = replace(incoming(HELLO), headers={"x-hub-signature-256": (f"sha256={HELLO_HEX}",) * 2})
    assert Flaw.DOUBLED is verify(source(), twice, NOW).flaw
    assert Flaw.MISSING is verify(source(), replace(twice, headers={"x-hub-signature-256": ()}), NOW).flaw


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        (Trust.AUTHENTICATED, "Bearer tok-en"),
        (Trust.AUTHENTICATED, "bearer tok-en"),
        (Trust.AUTHENTICATED, "BEARER tok-en"),
        (Flaw.MALFORMED, "tok-en"),
        (Flaw.MALFORMED, "Basic tok-en"),
        (Flaw.MALFORMED, "Bearer"),
        (Flaw.MALFORMED, "Bearer \ud800"),
        (Flaw.WRONG, "Bearer TOK-EN"),
        (Flaw.WRONG, "Bearer tok-e"),
        (Flaw.WRONG, "Bearer tok-enn"),
        (Flaw.WRONG, "Bearer "),
        (Flaw.WRONG, "Bearer tök-en"),
        (Flaw.MISSING, ""),
        (Flaw.MISSING, None),
    ],
)
def test_a_token_in_authorization(expected: Trust | Flaw, shown: str | None) -> None:
    """The scheme has no case (RFC 9110 11.1), the token has; it tells of the sender, not of the body."""
    assert expected is tried(TOKEN, shown)


def test_a_token_in_a_header_of_its_own() -> None:
    """Its prefix is compared exactly; letters beyond ASCII come as the bytes that they are."""
    secrets = (Secret("tok-en", "env:T"), Secret("tök-én", "env:U"))
    of = source(verify="token", header="x-token", prefix="Key ", secrets=secrets)
    assert Trust.AUTHENTICATED is tried(of, "Key tok-en")
    assert Flaw.MALFORMED is tried(of, "key tok-en")
    assert Trust.AUTHENTICATED is tried(of, "Key " + "tök-én".encode().decode("latin-1"))


def test_a_token_in_the_path() -> None:
    """Only the path counts then, not a header."""
    assert Trust.AUTHENTICATED is tried(PATH, None, token="tok-en")
    assert Flaw.WRONG is tried(PATH, "tok-en", token="tok-em")
    assert Flaw.WRONG is tried(PATH, None, token="\ud800")
    assert Flaw.MISSING is tried(PATH, "tok-en")


def test_a_token_in_the_path_is_of_no_use_elsewhere() -> None:
    """A source that wants a header does not look into the path."""
    assert Flaw.MISSING is tried(TOKEN, None, token="tok-en")
    assert Flaw.MISSING is tried(source(), None, token=HELLO_HEX)


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        (Trust.AUTHENTICATED, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Trust.AUTHENTICATED, "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Flaw.MALFORMED, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ"),
        (Flaw.MALFORMED, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR=="),
        (Flaw.MALFORMED, "Basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Flaw.MALFORMED, "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Flaw.MALFORMED, "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Flaw.WRONG, "Basic QWxhZGRpbjpvcGVuIHNlc2FtYQ=="),
        (Flaw.WRONG, "Basic "),
        (Flaw.MISSING, None),
    ],
)
def test_a_user_and_a_password(expected: Trust | Flaw, shown: str | None) -> None:
    """RFC 7617's own example is believed, in its one spelling."""
    assert expected is tried(BASIC, shown)


def test_open_is_said_out_loud() -> None:
    """Where anyone may post, the event says that nobody was asked."""
    assert Trust.UNATTEMPTED is tried(Source(name="any", ways=source().ways, open=True), None)


def test_a_source_without_secrets_believes_nobody() -> None:
    """No secret is not an empty secret, and an empty one is none."""
    for held in ((), (Secret("", "env:X"),)):
        assert Flaw.WRONG is tried(source(secrets=held), f"sha256={HELLO_HEX}")
    assert Flaw.WRONG is tried(source(verify="token", prefix="Bearer ", secrets=()), "Bearer ")
    assert Flaw.WRONG is verify(Source(name="none"), incoming(HELLO), NOW).flaw


def test_several_ways() -> None:
    """Any way will do, and the best proof counts; without one, the flaw of what came closest is told."""
    token = replace(TOKEN.ways[0], header="x-token", prefix="")
    of = Source(name="both", ways=(token, *source().ways))
    right, wrong = f"sha256={HELLO_HEX}", f"sha256={'0' * 64}"
    for headers, expected in (
        ({"x-token": "tok-en"}, Trust.AUTHENTICATED),
        ({"x-hub-signature-256": right}, Trust.VERIFIED),
        ({"x-token": "tok-en", "x-hub-signature-256": right}, Trust.VERIFIED),
        ({"x-token": "tok-en", "x-hub-signature-256": wrong}, Trust.AUTHENTICATED),
        ({"x-hub-signature-256": wrong}, Flaw.WRONG),
        ({"x-hub-signature-256": HELLO_HEX}, Flaw.MALFORMED),
        ({"x-token": "token", "x-hub-signature-256": HELLO_HEX}, Flaw.WRONG),
        ({}, Flaw.MISSING),
    ):
        proof = verify(of, incoming(HELLO, headers), NOW)
        assert expected in {proof.trust, proof.flaw}
    assert (Trust.VERIFIED, Trust.AUTHENTICATED) == (best(of), best(TOKEN))
    assert (Trust.UNATTEMPTED, Trust.UNATTEMPTED) == (best(Source(name="x")), best(replace(of, open=True)))


def test_work_for_nothing_never_fails() -> None:
    """An unknown source costs one digest, whatever the body."""
    for body in (b"", HELLO):
        waste(body)


def test_a_public_key_is_kept_by_its_bytes() -> None:
    """What an environment holds that is no text never raises: it is bytes that nobody sends."""
    assert key(Way(verify="hmac"), "a\udcff") == b"a\xed\xb3\xbf"
