"""Who is believed, and who is not."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from build import source
from hypothesis import given
from hypothesis import strategies as st

from relay.event import Trust
from relay.rule import Source
from relay.secret import Secret
from relay.verify import Flaw, sign, verify, waste

HELLO = b"Hello, World!"
HELLO_HEX = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
"""GitHub's documented vector."""

TOKEN = source(verify="token", header="authorization", prefix="Bearer ", secrets=(Secret("tok-en", "env:T"),))
PATH = source(verify="token", place="path", prefix="", secrets=(Secret("tok-en", "env:T"),))


def tried(of: Source, shown: str | None, body: bytes = HELLO, token: str = "") -> Trust | Flaw:
    return verify(of, {} if shown is None else {of.header: [shown]}, body, token)


def test_the_documented_vector() -> None:
    """GitHub's own example is believed, and signed the same."""
    assert Trust.VERIFIED is tried(source(), f"sha256={HELLO_HEX}")
    assert ({"x-hub-signature-256": f"sha256={HELLO_HEX}"}, "") == sign(source(), HELLO)


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        (Trust.VERIFIED, f"sha256={HELLO_HEX.upper()}"),
        (Flaw.MISSING, None),
        (Flaw.MISSING, ""),
        (Flaw.MALFORMED, HELLO_HEX),
        (Flaw.MALFORMED, f"SHA256={HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha1={HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX[:-1]}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX[:-1]}g"),
        (Flaw.MALFORMED, f"sha256= {HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX} "),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX},sha256={HELLO_HEX}"),
        (Flaw.MALFORMED, f"sha256={HELLO_HEX[:-2]}\uff14\uff12"),
        (Flaw.WRONG, f"sha256={HELLO_HEX[:-2]}"),
        (Flaw.WRONG, "sha256="),
        (Flaw.WRONG, f"sha256={HELLO_HEX}00"),
    ],
)
def test_only_the_whole_signature_will_do(expected: Trust | Flaw, shown: str | None) -> None:
    """Hex may be upper case; anything missing, more or otherwise spelled is refused with its reason."""
    assert expected is tried(source(), shown)


def test_a_doubled_header_is_refused() -> None:
    """Two signatures, even two right ones, are an attempt to be read in two ways."""
    shown = f"sha256={HELLO_HEX}"
    assert Flaw.DOUBLED is verify(source(), {"x-hub-signature-256": [shown, shown]}, HELLO, "")
    assert Flaw.MISSING is verify(source(), {"x-hub-signature-256": []}, HELLO, "")


def test_base64_has_one_spelling() -> None:
    """Spare bits, missing padding, white space and the URL alphabet are refused."""
    of = source(encoding="base64", prefix="")
    right = sign(of, HELLO)[0][of.header]
    assert right.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = right[:-2] + alphabet[alphabet.index(right[-2]) ^ 1] + "="
    assert base64.b64decode(right) == base64.b64decode(spare)

    assert Trust.VERIFIED is tried(of, right)
    for shown in (spare, right[:-1], right + "=", right + "\n", right[:8] + " " + right[8:], "é" * 44):
        assert Flaw.MALFORMED is tried(of, shown)


def test_rotation() -> None:
    """Every secret in use is believed, one that was taken away is not."""
    old, new, gone = Secret("the old one", "env:A"), Secret("the new one", "env:B"), Secret("gone", "env:C")
    of = source(secrets=(new, old))
    for secret, expected in ((old, Trust.VERIFIED), (new, Trust.VERIFIED), (gone, Flaw.WRONG)):
        assert expected is tried(of, sign(replace(of, secrets=(secret,)), HELLO)[0][of.header])


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        (Trust.AUTHENTICATED, "Bearer tok-en"),
        (Trust.AUTHENTICATED, "bearer tok-en"),
        (Trust.AUTHENTICATED, "BEARER tok-en"),
        (Flaw.MALFORMED, "tok-en"),
        (Flaw.MALFORMED, "Basic tok-en"),
        (Flaw.MALFORMED, "Bearer"),
        (Flaw.WRONG, "Bearer TOK-EN"),
        (Flaw.WRONG, "Bearer tok-e"),
        (Flaw.WRONG, "Bearer tok-enn"),
        (Flaw.WRONG, "Bearer "),
        (Flaw.WRONG, "Bearer tök-en"),
        (Flaw.WRONG, "Bearer \ud800"),
        (Flaw.MISSING, ""),
        (Flaw.MISSING, None),
    ],
)
def test_a_token_in_authorization(expected: Trust | Flaw, shown: str | None) -> None:
    """The scheme has no case (RFC 9110 11.1), the token has; it tells of the sender, not of the body."""
    assert expected is tried(TOKEN, shown)


def test_a_token_in_a_header_of_its_own() -> None:
    """Its prefix is compared exactly."""
    of = replace(TOKEN, header="x-token", prefix="Key ")
    assert Trust.AUTHENTICATED is tried(of, "Key tok-en")
    assert Flaw.MALFORMED is tried(of, "key tok-en")


def test_a_token_in_the_path() -> None:
    """Only the path counts then, not a header."""
    assert Trust.AUTHENTICATED is tried(PATH, None, token="tok-en")
    assert Flaw.WRONG is tried(PATH, "tok-en", token="tok-em")
    assert Flaw.MISSING is tried(PATH, "tok-en")


def test_a_token_in_the_path_is_of_no_use_elsewhere() -> None:
    """A source that wants a header does not look into the path."""
    assert Flaw.MISSING is tried(TOKEN, None, token="tok-en")
    assert Flaw.MISSING is tried(source(), None, token=HELLO_HEX)


def test_none_is_said_out_loud() -> None:
    """Where anyone may post, the event says that nobody was asked."""
    assert Trust.UNATTEMPTED is tried(source(verify="none", secrets=()), None)
    assert ({}, "") == sign(source(verify="none", secrets=()), HELLO)


def test_a_source_without_secrets_believes_nobody() -> None:
    """No secret is not an empty secret."""
    assert Flaw.WRONG is tried(source(secrets=()), f"sha256={HELLO_HEX}")
    assert Flaw.WRONG is tried(replace(TOKEN, secrets=()), "Bearer ")


def test_work_for_nothing_never_fails() -> None:
    """An unknown source costs one digest, whatever the body."""
    for body in (b"", HELLO):
        waste(body)


SECRETS = st.lists(st.text(min_size=1).map(lambda text: Secret(text, "env:X")), min_size=1, max_size=3)
SOURCES = st.builds(
    source,
    verify=st.sampled_from(["hmac", "token", "none"]),
    place=st.sampled_from(["header", "path"]),
    algorithm=st.sampled_from(["sha256", "sha512", "sha1"]),
    encoding=st.sampled_from(["hex", "base64"]),
    header=st.sampled_from(["authorization", "x-signature"]),
    prefix=st.sampled_from(["", "Bearer ", "sha256=", "v1="]),
    secrets=SECRETS.map(tuple),
).filter(lambda of: of.place == "header" or (of.verify == "token" and not of.prefix))


@given(SOURCES, st.binary())
def test_what_we_sign_we_believe(of: Source, body: bytes) -> None:
    """`sign` makes what `verify` takes, for every source that can be written."""
    headers, token = sign(of, body)
    trust = {"hmac": Trust.VERIFIED, "token": Trust.AUTHENTICATED, "none": Trust.UNATTEMPTED}[of.verify]

    assert trust is verify(of, {name: [value] for name, value in headers.items()}, body, token)


@given(SOURCES.filter(lambda of: of.verify == "hmac"), st.binary(min_size=1, max_size=60), st.data())
def test_one_flipped_bit_is_refused(of: Source, body: bytes, data: st.DataObject) -> None:
    """No bit of the body or of the signature can be changed."""
    of = replace(of, prefix="")
    shown = sign(of, body)[0][of.header]
    flip = 1 << data.draw(st.integers(0, 7))
    at = data.draw(st.integers(0, len(body) - 1))
    other = body[:at] + bytes([body[at] ^ flip]) + body[at + 1 :]
    assert Flaw.WRONG is tried(of, shown, other)

    at = data.draw(st.integers(0, len(shown) - 1))
    changed = shown[:at] + chr(ord(shown[at]) ^ flip) + shown[at + 1 :]
    if of.encoding == "base64" or changed.lower() != shown:  # upper-case hex is the same signature
        assert isinstance(tried(of, changed, body), Flaw)


@given(
    SOURCES.filter(lambda of: of.verify != "none"),
    st.lists(st.text(st.characters()) | st.binary().map(lambda raw: raw.decode("latin-1")), max_size=2),
    st.text(st.characters()),
    st.binary(),
)
def test_strangers_are_refused_and_never_raise(of: Source, values: Any, token: str, body: bytes) -> None:
    """Whatever stands in the header or the path, the answer is a flaw."""
    of = replace(of, secrets=(Secret("a secret that is longer than luck", "env:X"),))

    assert isinstance(verify(of, {of.header: values}, body, token), Flaw)
