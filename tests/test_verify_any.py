"""Whatever comes, the answer is a proof or a flaw: bytes in, one of a closed set out, never an exception."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build import NOW, source
from hypothesis import example, given
from hypothesis import strategies as st
from vectors import PUBLISHED, Published

from relay import verify as room
from relay.event import Trust
from relay.secret import Secret
from relay.sign import sign
from relay.source import Incoming, Source, Way
from relay.verify import Flaw, verify

TEXT = st.one_of(
    st.text(st.characters()),
    st.binary().map(lambda raw: raw.decode("latin-1")),
    st.from_regex(r"(t=[0-9]{0,14}|v1a?[=,][A-Za-z0-9+/=]{0,90}|[ ,;=]){0,20}", fullmatch=True),
    st.sampled_from(
        ["sha256=", "v1,", "Bearer ", "Basic Og==", "t=1,v1=", "1700000000", "2023-11-14T22:13:20Z"]
    ),
)
BODIES = st.binary() | st.sampled_from([
    *(b"", b"{}", b"[]", b"a=b&c=d", b"a=%ZZ", b'{"signature":{"timestamp":1}}', b'{"sent":1e99}'),
    *(b"[" * 2_000, b'{"a":' * 70 + b"1" + b"}" * 70, b'{"a":1,"a":2}', b"\xff\xfe", b'{"sent":"\\ud800"}'),
])  # fmt: skip
NAMES = ["authorization", "x-signature", "webhook-id", "webhook-timestamp", "content-type"]
TYPES = st.sampled_from(["application/x-www-form-urlencoded", "application/json"])

WAYS = st.builds(
    Way,
    verify=st.sampled_from(["hmac", "ed25519", "ecdsa-p256", "token", "basic", "jwt", "sns", "twilio"]),
    secrets=st.lists(st.text().map(lambda text: Secret(text, "env:X")), max_size=2).map(tuple),
    header=st.sampled_from(NAMES),
    place=st.sampled_from(["header", "path", "body"]),
    algorithm=st.sampled_from(["sha256", "sha512", "sha1"]),
    encoding=st.sampled_from(["hex", "any-case-hex", "base64", "base64url"]),
    format=st.sampled_from(["plain", "list"]),
    item_separator=st.sampled_from([",", " ", ";"]),
    key_separator=st.sampled_from(["=", ","]),
    field=st.sampled_from(["v1", "v1a", "signature.value", ""]),
    prefix=st.sampled_from(["", "Bearer ", "sha256="]),
    signed=st.sampled_from([
        *("{body}", "{timestamp}.{body}", "{header:webhook-id}{timestamp}{body}", "{url}{method}{body}"),
        "{body:signature.timestamp}{body:*.a}",
    ]),
    timestamp=st.sampled_from(
        ["", "header:webhook-timestamp", "field:t", "body:signature.timestamp", "body:sent"]
    ),
    timestamp_unit=st.sampled_from(["s", "ms", "iso"]),
    key_encoding=st.sampled_from(["utf8", "base64", "hex"]),
    public_url=st.sampled_from(["", "https://relay.example/hooks/x"]),
    keys=st.sampled_from(["", "https://login.example/keys"]),
    issuers=st.just(("https://login.example",)),
    audience=st.just("relay"),
    topics=st.just(("arn:aws:sns:us-east-1:1:x",)),
)  # fmt: skip
DELIVERIES = st.builds(
    Incoming,
    headers=st.dictionaries(st.sampled_from(NAMES), st.lists(TEXT | TYPES, max_size=2).map(tuple)),
    body=BODIES,
    token=TEXT,
    query=TEXT | st.just("bodySHA256=1&bodySHA256=2"),
)


@given(st.lists(WAYS, max_size=3), DELIVERIES, st.integers(0, 2**53))
def test_strangers_are_refused_and_nothing_is_raised(ways: list[Way], sent: Incoming, now: int) -> None:
    """Whatever stands wherever, in any way that can be written down: who knows no secret is not believed."""
    own = (Secret("a secret that is longer than luck", "env:X"),)
    guarded = Source(name="x", ways=tuple(replace(way, secrets=own) for way in ways))

    assert isinstance(verify(guarded, sent, now, {"https://login.example/keys": sent.body}).flaw, Flaw)


@given(st.lists(WAYS, max_size=3), DELIVERIES)
def test_odd_secrets_raise_nothing(ways: list[Way], sent: Incoming) -> None:
    """A secret that is no key, or empty, or not to be written in UTF-8, is one that nobody has."""
    proof = verify(Source(name="x", ways=tuple(ways)), sent, NOW)

    assert (proof.flaw is None) == (proof.trust is not Trust.FAILED)


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.name)
@given(data=st.data())
def test_a_published_scheme_takes_no_other_header(one: Published, data: st.DataObject) -> None:
    """Of each published delivery, any header may be anything: it is the published one, or it is refused."""
    name = data.draw(st.sampled_from(sorted({*one.incoming.headers} - {"content-type"})))
    values = data.draw(st.lists(TEXT, max_size=2).map(tuple))
    sent = replace(one.incoming, headers={**one.incoming.headers, name: values})

    assert isinstance(verify(one.source(), sent, one.now).flaw, Flaw)


@given(
    st.builds(
        source,
        verify=st.sampled_from(["hmac", "token", "basic"]),
        algorithm=st.sampled_from(["sha256", "sha512", "sha1"]),
        encoding=st.sampled_from(["hex", "any-case-hex", "base64", "base64url"]),
        header=st.sampled_from(["authorization", "x-signature"]),
        prefix=st.sampled_from(["", "Bearer ", "sha256=", "v1="]),
        secrets=st.lists(
            st.text(min_size=1).map(lambda text: Secret(text, "env:X")), min_size=1, max_size=3
        ).map(tuple),
    ),
    st.binary(),
)
@example(source(verify="token", header="authorization", prefix="", secrets=(Secret("\u20ac", "env:X"),)), b"")
def test_what_we_sign_we_believe(of: Source, body: bytes) -> None:
    """`sign` makes what `verify` takes, whatever the secret and the body are."""
    expected = Trust.VERIFIED if of.ways[0].verify == "hmac" else Trust.AUTHENTICATED

    assert expected is verify(of, sign(of, Incoming(headers={}, body=body), NOW), NOW).trust


# -- how secrets are compared --

FOLDER = Path(room.__file__).parent
SECRET = {"own", "secret", "made", "claim", "claimed", "claims", "digest", "found_digest", "key"}
"""What a secret, a key or a signature is called in `relay.verify`."""


def compared(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Yield the line of each comparison, and the names that are compared; not with None, and not lengths."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [side for side in (node.left, *node.comparators) if not _is_length(side)]
            names = {one.id for side in sides for one in ast.walk(side) if isinstance(one, ast.Name)}
            calls = {one.attr for side in sides for one in ast.walk(side) if isinstance(one, ast.Attribute)}
            if not all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
                yield node.lineno, names | calls


def _is_length(side: ast.expr) -> bool:
    return isinstance(side, ast.Call) and isinstance(side.func, ast.Name) and side.func.id == "len"


@pytest.mark.parametrize("name", ["__init__", "cover", "key", "proof", "shown", "spell", "stamp", "ways"])
def test_secrets_are_compared_in_constant_time(name: str) -> None:
    """Only `compare_digest` looks at a secret or at what is made of it: == would tell how much is right."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    told = [(line, names & (SECRET | {"reveal"})) for line, names in compared(tree)]

    assert [] == [one for one in told if one[1]]


def test_the_net_for_comparisons_is_no_dead_letter() -> None:
    """The test above finds what it should: each way to compare by hand."""
    for text in (
        "made == claim",
        "claim in several",
        "secret.reveal() != shown",
        "key(way) == raw",
        "own < x",
    ):
        assert any(names & (SECRET | {"reveal"}) for _, names in compared(ast.parse(text)))
    calls: Any = [
        node for node in ast.walk(ast.parse((FOLDER / "key.py").read_text())) if isinstance(node, ast.Call)
    ]
    assert any(getattr(call.func, "attr", "") == "compare_digest" for call in calls)
