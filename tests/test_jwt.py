"""Whose tokens are believed?  Those of one issuer, for us, signed with one of its keys, now; no others."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from build import NOW, incoming, source
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import mint
from relay.errors import Unfit
from relay.event import Trust
from relay.sign import sign
from relay.verify import Flaw, Proof, verify
from relay.verify.jwt import LEEWAY_MS

ADDRESS = "https://www.googleapis.com/oauth2/v3/certs"
RSA, EC, OTHER = mint.fresh("jwt"), mint.fresh("ecdsa-p256"), mint.fresh("jwt")
EMAIL = "relay@project.iam.gserviceaccount.com"
OURS: dict[str, Any] = {
    "verify": "jwt",
    "secrets": (),
    "header": "authorization",
    "prefix": "Bearer ",
    "keys": ADDRESS,
    "issuers": ("https://accounts.google.com", "accounts.google.com"),
    "audience": "https://relay.example/hooks/pubsub",
    "claims": {"email": EMAIL, "email_verified": True},
}
PUBSUB = source(name="pubsub", **OURS)
WAY = PUBSUB.ways[0]
BODY = b'{"message": {"messageId": "1"}}'
SECOND = NOW // 1000
CLAIMS: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "aud": WAY.audience,
    "iat": SECOND,
    "exp": SECOND + 3600,
    "email": EMAIL,
    "email_verified": True,
}


def listed(*keys: bytes) -> bytes:
    """Return a JWKS with the public halves of all these."""
    return json.dumps({"keys": [json.loads(mint.jwks(key))["keys"][0] for key in keys]}).encode()


HELD = {ADDRESS: listed(RSA, EC)}


def kid(key: bytes) -> str:
    """Return the name under which a key stands in the list."""
    return str(json.loads(mint.jwks(key))["keys"][0]["kid"])


def token(key: bytes = RSA, head: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a token with claims that differ from good ones; None leaves one out."""
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    algorithm = "ES256" if key == EC else "RS256"
    raw = json.dumps(said).encode()  # PyJWT's own encoder refuses some of what a forger writes
    return jwt.PyJWS().encode(raw, mint.private(key), algorithm, headers={"kid": kid(key), **(head or {})})


def shown(text: str, scheme: str = "Bearer ", held: dict[str, bytes] | None = None) -> Proof:
    """Say what a token proves."""
    delivery = incoming(BODY, {"Authorization": f"{scheme}{text}"})
    return verify(PUBSUB, delivery, NOW, HELD if held is None else held)


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer "])
def test_a_good_token_is_believed(key: bytes, scheme: str) -> None:
    """Its sender is authenticated, and no more: a token covers no body."""
    proof = shown(token(key), scheme)

    assert Proof(trust=Trust.AUTHENTICATED, by=ADDRESS, signed=BODY) == proof


def test_what_is_minted_is_believed() -> None:
    """`relay send` makes such tokens; with a key of another kind it says so."""
    for key in (RSA, EC):
        made = sign(PUBSUB, incoming(BODY), NOW, key)
        assert Trust.AUTHENTICATED is verify(PUBSUB, made, NOW, HELD).trust
    with pytest.raises(Unfit):
        sign(PUBSUB, incoming(BODY), NOW, mint.fresh("ed25519"))
    with pytest.raises(Unfit):
        sign(PUBSUB, incoming(BODY), NOW, b"no key")


@pytest.mark.parametrize(
    ("flaw", "claims"),
    [
        (Flaw.CLAIMS, {"iss": "https://accounts.google.com.evil.example"}),
        (Flaw.CLAIMS, {"iss": None}),
        (Flaw.CLAIMS, {"iss": ""}),
        (Flaw.CLAIMS, {"iss": ["https://accounts.google.com"]}),
        (Flaw.CLAIMS, {"aud": "https://relay.example/hooks/other"}),
        (Flaw.CLAIMS, {"aud": None}),
        (Flaw.CLAIMS, {"aud": ["https://other.example"]}),
        (Flaw.CLAIMS, {"aud": WAY.audience + "/"}),
        (Flaw.CLAIMS, {"email": "someone@project.iam.gserviceaccount.com"}),
        (Flaw.CLAIMS, {"email": EMAIL.upper()}),
        (Flaw.CLAIMS, {"email": None}),
        (Flaw.CLAIMS, {"email_verified": False}),
        (Flaw.CLAIMS, {"email_verified": "true"}),
        (Flaw.CLAIMS, {"email_verified": 1}),
        (Flaw.CLAIMS, {"email_verified": None}),
        (Flaw.CLAIMS, {"exp": None}),
        (Flaw.CLAIMS, {"exp": str(SECOND + 60)}),
        (Flaw.CLAIMS, {"exp": True}),
        (Flaw.CLAIMS, {"exp": 10**400}),
        (Flaw.CLAIMS, {"exp": float("inf")}),
        (Flaw.CLAIMS, {"exp": float("nan")}),
        (Flaw.CLAIMS, {"nbf": "soon"}),
        (Flaw.OLD, {"exp": SECOND - 60}),
        (Flaw.EARLY, {"iat": SECOND + 61}),
        (Flaw.EARLY, {"nbf": SECOND + 61}),
    ],
)
def test_a_token_for_another_is_refused(flaw: Flaw, claims: dict[str, Any]) -> None:
    """Rightly signed, but not by whom, for whom, about whom and when it must be; no key is wanted for it."""
    assert Proof(flaw=flaw) == shown(token(**claims))
    assert Proof(flaw=flaw) == shown(token(**claims), held={})


@pytest.mark.parametrize("claims", [{"exp": SECOND - 59}, {"iat": SECOND + 60}, {"aud": ["x", WAY.audience]}])
def test_clocks_may_differ_by_a_minute(claims: dict[str, Any]) -> None:
    """The edges of what is believed, by our clock and nobody else's."""
    assert 60_000 == LEEWAY_MS
    assert Trust.AUTHENTICATED is shown(token(**claims)).trust


def part(data: Any) -> str:
    """Write a part of a token."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(head: dict[str, Any], signature: bytes = b"x") -> str:
    """Return a token with good claims under another head."""
    return f"{part({'typ': 'JWT', **head})}.{part(CLAIMS)}.{part(signature)}"


def hs256(secret: bytes, **head: Any) -> str:
    """Return a token that is signed with a public key, as if that were a secret."""
    said = f"{part({'alg': 'HS256', **head})}.{part(CLAIMS)}"
    return f"{said}.{part(hmac.digest(secret, said.encode(), hashlib.sha256))}"


def test_algorithms_are_the_keys_not_the_tokens() -> None:
    """No ``none``, no HMAC with the public key as its secret, no key that the token brings itself."""
    public = mint.private(RSA).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    theirs = json.loads(mint.jwks(OTHER))["keys"][0]
    attacks = [
        *(forged({"alg": alg, "kid": kid(RSA)}) for alg in ("none", "None", "NONE", "nOnE", "", "HS256")),
        f"{part({'alg': 'none'})}.{part(CLAIMS)}.",
        *(hs256(secret, kid=kid(RSA)) for secret in (pem, pem.strip(), der, HELD[ADDRESS], b"")),
        token(OTHER, {"jwk": theirs}),
        token(OTHER, {"jku": "https://evil.example/jwks", "kid": kid(RSA)}),
        token(OTHER, {"x5u": "https://evil.example/cert", "kid": kid(RSA)}),
        token(OTHER, {"kid": kid(RSA)}),
        token(RSA, {"kid": kid(EC)}),
        token(RSA, {"crit": ["exp"]}),
        jwt.encode(CLAIMS, mint.private(RSA), "RS512", headers={"kid": kid(RSA)}),
        jwt.encode(CLAIMS, mint.private(RSA), "PS256", headers={"kid": kid(RSA)}),
    ]

    assert [] == [one for one in attacks if shown(one).trust is not Trust.FAILED]


def test_every_bit_counts() -> None:
    """A token with one bit changed is refused, and none raises."""
    good = token(EC)
    flips = [
        good[:at] + chr(ord(good[at]) ^ 1 << bit) + good[at + 1 :]
        for at in range(len(good))
        for bit in range(7)
    ]

    assert [] == [one for one in flips if shown(one).trust is not Trust.FAILED]
    assert len(flips) > 2000


@pytest.mark.parametrize(
    "text",
    ["", "a", "a.b", "a.b.c.d", "..", "a..c", token() + "=", token() + " ", token() + "\n", "x" * 9000,
     "é.é.é",
     f"{part(b'[' * 5000)}.{part(CLAIMS)}.eA", f"{part({'alg': 'RS256'})}.{part(b'[' * 5000)}.eA",
     f"{part(['alg'])}.{part(CLAIMS)}.eA", f"{part({'alg': ['RS256']})}.{part(CLAIMS)}.eA",
     f"{part({'alg': 'RS256', 'kid': {}})}.{part(CLAIMS)}.eA", f"{part({'alg': 'RS256'})}.{part([1])}.eA",
     f"{part({'alg': 'RS256'})}.{part(b'9' * 5000)}.eA", f"{part({'alg': 'RS256', 'b64': False})}..eA"],
)  # fmt: skip
def test_what_is_no_token_is_refused(text: str) -> None:
    """Whatever stands there, nothing is raised, and no key is fetched for it."""
    proof = shown(text)

    assert (Trust.FAILED, "") == (proof.trust, proof.wants)


def test_one_header_with_the_right_scheme() -> None:
    """Two tokens are none, and neither is one under another scheme."""
    good = token()
    twice = incoming(BODY)
    both = type(twice)(headers={"authorization": (f"Bearer {good}", f"Bearer {good}")}, body=BODY)

    assert Flaw.DOUBLED is verify(PUBSUB, both, NOW, HELD).flaw
    assert Flaw.MISSING is verify(PUBSUB, twice, NOW, HELD).flaw
    assert Flaw.MALFORMED is shown(good, "Basic ").flaw
    assert Flaw.MALFORMED is shown(good, "").flaw


GOOD = token()


@given(st.text(max_size=200), st.binary(max_size=200))
@settings(deadline=None)
def test_nothing_raises(text: str, jwks: bytes) -> None:
    """Any text for a token, any bytes for the list of keys."""
    assert Trust.FAILED is shown(text).trust
    assert Trust.FAILED is shown(GOOD, held={ADDRESS: jwks}).trust


# -- keys --


def test_an_unknown_key_is_wanted() -> None:
    """Nothing fetched yet, or another kid than those that are held: the list's address is wanted."""
    wanted = Proof(flaw=Flaw.NO_KEY, wants=ADDRESS)

    assert wanted == shown(token(), held={})
    assert wanted == shown(token(OTHER))
    assert wanted == shown(token(), held={"https://elsewhere.example": HELD[ADDRESS]})


def test_without_a_kid_the_only_key_of_its_kind_is_meant() -> None:
    """Where two could be meant, none is."""
    bare = jwt.encode(CLAIMS, mint.private(RSA), "RS256")

    assert Trust.AUTHENTICATED is shown(bare).trust
    assert Flaw.NO_KEY is shown(bare, held={ADDRESS: listed(RSA, OTHER)}).flaw


def _jwk(key: bytes, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mint.jwks(key))["keys"][0]
    return found | more


@pytest.mark.parametrize(
    "keys",
    [
        None,
        [],
        {},
        "keys",
        [None, 1, "x", []],
        [_jwk(RSA, use="enc")],
        [_jwk(RSA, alg="RS512")],
        [_jwk(RSA, kty="oct", k="eA")],
        [_jwk(RSA, n="eA")],
        [_jwk(RSA, n=1)],
        [_jwk(EC, crv="P-384")],
        [_jwk(RSA), _jwk(RSA)],
        [{"kty": "RSA", "kid": kid(RSA)}],
        [{"kty": "EC", "crv": ["P-256"], "kid": kid(RSA)}],
    ],
)
def test_keys_that_are_not_meant_for_it_are_passed_over(keys: Any) -> None:
    """For another use or algorithm, unreadable, or not to be told apart."""
    assert Flaw.NO_KEY is shown(token(), held={ADDRESS: json.dumps({"keys": keys}).encode()}).flaw


def test_private_and_weak_keys_are_passed_over() -> None:
    """A list that shows a private key is broken, and RSA below 2048 bits can be."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers()
    number = part(weak.n.to_bytes(128, "big"))
    shared = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(mint.private(RSA)))  # type: ignore[arg-type]
    wide = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key()))
    for one in ({"kty": "RSA", "n": number, "e": "AQAB"}, shared, wide):
        held = {ADDRESS: json.dumps({"keys": [one | {"kid": kid(RSA)}]}).encode()}
        assert Flaw.NO_KEY is shown(token(), held=held).flaw
