"""Which secret is for which way of proof?  What can't go together is in tests/data/broken/ways."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rulesfiles import ENVIRON, problems, with_source, write

from relay.load import load
from relay.source import Source, Way
from relay.verify.key import Unreadable, key
from relay.way import SHORTEST_KEY

HMAC = {"verify": "hmac", "header": "x-signature"}
ED25519 = {
    "verify": "ed25519",
    "header": "x-signature",
    "key_encoding": "base64",
    "strip_key_prefix": "whpk_",
}
PUBLIC = base64.b64encode(bytes(range(32))).decode()
VALUES = {
    "PLAIN": "a secret of a good length",
    "OTHER": "another of a good length",
    "WHSEC": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "WHPK": f"whpk_{PUBLIC}",
    "PUBLIC": PUBLIC,
    "PASSWORD": "somebody:open sesame",
}


def loaded(folder: Path, *names: str, **keys: Any) -> Source:
    """Load a source with secrets of these names."""
    path = write(folder, with_source(**keys, secrets=[f"env:{name}" for name in names]))
    return load(path, ENVIRON | VALUES).sources["extra"]


def held(source: Source) -> list[tuple[str, list[str]]]:
    """Return which way has which secrets, by where they are from."""
    return [(way.verify, [secret.origin for secret in way.secrets]) for way in source.ways]


@pytest.mark.parametrize(
    ("names", "keys", "expected"),
    [
        (["PLAIN", "OTHER"], HMAC, [("hmac", ["env:PLAIN", "env:OTHER"])]),
        (["PASSWORD"], {"verify": "basic"}, [("basic", ["env:PASSWORD"])]),
        (
            ["PLAIN"],
            {"verify": "token", "also": [HMAC]},
            [("token", ["env:PLAIN"]), ("hmac", ["env:PLAIN"])],
        ),
        (
            ["PLAIN", "WHSEC"],
            {"verify": "token", "also": [HMAC | {"strip_key_prefix": "whsec_", "key_encoding": "base64"}]},
            [("token", ["env:PLAIN"]), ("hmac", ["env:WHSEC"])],
        ),
        (
            ["WHSEC"],
            {"verify": "token", "also": [HMAC | {"strip_key_prefix": "whsec_", "key_encoding": "base64"}]},
            [("hmac", ["env:WHSEC"])],
        ),
        (
            ["WHPK", "PUBLIC"],
            HMAC | {"also": [ED25519]},
            [("hmac", ["env:PUBLIC"]), ("ed25519", ["env:WHPK"])],
        ),
        (["PUBLIC", "WHPK"], ED25519, [("ed25519", ["env:PUBLIC", "env:WHPK"])]),
        (
            ["PLAIN", "PASSWORD"],
            {"verify": "token", "also": [{"verify": "basic"}]},
            [("token", ["env:PLAIN", "env:PASSWORD"]), ("basic", ["env:PASSWORD"])],
        ),
    ],
)
def test_each_way_has_its_secrets(
    tmp_path: Path, names: list[str], keys: dict[str, Any], expected: list[tuple[str, list[str]]]
) -> None:
    """A prefix says whose a secret is; without one it is every way's that can read it; a way without goes."""
    assert expected == held(loaded(tmp_path, *names, **keys))


def test_a_public_key_is_never_a_secret(tmp_path: Path) -> None:
    """Where both kinds have prefixes, a key without one is refused: it could be what everybody knows."""
    spelt = {"strip_key_prefix": "whsec_", "key_encoding": "base64"}
    for first, second in ((HMAC | spelt, ED25519), (ED25519, HMAC | spelt)):
        path = write(tmp_path, with_source(**first, also=[second], secrets=["env:WHPK", "env:PUBLIC"]))
        (problem,) = problems(path, ENVIRON | VALUES)
        assert "env:PUBLIC begins with none of whpk_, whsec_" == problem.what


def test_without_an_environment_keys_are_not_read(tmp_path: Path) -> None:
    """To check and to explain takes no secrets: random ones stand in, and are no problem."""
    for keys in (HMAC | {"key_encoding": "base64"}, ED25519, {"verify": "basic"}, HMAC | {"also": [ED25519]}):
        path = write(tmp_path, with_source(**keys, secrets="env:NOT_SET"))
        source = load(path, {}, secrets=False).sources["extra"]
        assert all(way.secrets for way in source.ways)


def test_no_value_is_told(tmp_path: Path) -> None:
    """What is wrong with a secret is said by its place, never by what it is."""
    secret = "canary-7Qx9-canary-canary"
    for keys in (HMAC | {"key_encoding": "hex"}, ED25519, {"verify": "basic"}):
        path = write(tmp_path, with_source(**keys, secrets="env:CANARY"))
        said = " ".join(str(one) for one in problems(path, ENVIRON | {"CANARY": secret}))
        assert "env:CANARY" in said
        assert "canary-" not in said


@pytest.mark.parametrize(
    ("spelt", "spell"),
    [("hex", bytes.hex), ("base64", lambda raw: base64.b64encode(raw).decode()), ("utf8", bytes.decode)],
)
def test_a_key_is_measured_as_it_is_used(tmp_path: Path, spelt: str, spell: Callable[[bytes], str]) -> None:
    """Sixteen bytes of the key itself: its prefix and its spelling do not make it longer."""
    keys = HMAC | {"key_encoding": spelt, "strip_key_prefix": "whsec_", "secrets": "env:KEY"}
    path = write(tmp_path, with_source(**keys))
    short, enough = (
        ENVIRON | {"KEY": f"whsec_{spell(b'x' * length)}"} for length in (SHORTEST_KEY - 1, SHORTEST_KEY)
    )

    assert ["env:KEY is shorter than 16 bytes"] == [one.what for one in problems(path, short)]
    assert SHORTEST_KEY == len(key(*_first(load(path, enough).sources["extra"])))


def _first(source: Source) -> tuple[Way, str]:
    return source.ways[0], source.ways[0].secrets[0].reveal()


def test_senders_have_secrets_of_their_own(tmp_path: Path) -> None:
    """Two sources with one secret are told; one public key for two is a sender with two addresses."""
    token = {"verify": "token", "secrets": ["env:OTHER", "env:PLAIN"]}
    path = write(tmp_path, {"source": {"a": HMAC | {"secrets": "env:PLAIN"}, "b": token}})
    (problem,) = problems(path, VALUES)
    assert ("source.b.secrets", "the same secret as that of a") == (problem.key, problem.what)

    both = {"source": {name: ED25519 | {"secrets": "env:PUBLIC"} for name in ("a", "b")}}
    assert ["a", "b"] == sorted(load(write(tmp_path, both), VALUES).sources)


@pytest.mark.parametrize("odd", [*' /%?#\\^`{|}<>"[]', "é", "∞", "\u00a0"])
def test_a_token_for_a_path_can_stand_in_one(tmp_path: Path, odd: str) -> None:
    """One that would be escaped, or end the path, would never be right; RFC 3986 says what may stand."""
    keys = {"verify": "token", "in": "path", "secrets": "env:TOKEN"}
    path = write(tmp_path, with_source(**keys))
    (problem,) = problems(path, ENVIRON | {"TOKEN": f"a-token-of{odd}a-good-length"})
    assert ("source.extra.secrets", "openssl rand -hex 24") == (problem.key, problem.hint)
    assert "env:TOKEN is no key: a path can't hold all its characters" == problem.what

    assert problems(path, ENVIRON | {"TOKEN": "..;a-token-of-a-good-length"})

    sound = "a-token-of-a-good-length.0_9~!$&'()*+,;=:@"
    assert load(path, ENVIRON | {"TOKEN": sound}).sources["extra"].ways[0].secrets
    mixed = keys | {"also": [HMAC]}
    of = load(write(tmp_path, with_source(**mixed)), ENVIRON | {"TOKEN": f"a-token-of{odd}a-good-length"})
    assert [("hmac", ["env:TOKEN"])] == held(of.sources["extra"])


PRIME = 2**255 - 19
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME


def order(y: int) -> int:
    """Return the order of a point of Ed25519 with this y, up to 8; 0 if it is more, or there is none."""
    root = _root((y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME) % PRIME)
    at, times = (root or 0, y % PRIME), 1
    while root is not None and at != (0, 1) and times <= 8:
        at, times = _sum(at, (root, y % PRIME)), times + 1
    return times if at == (0, 1) and times <= 8 else 0


def _root(square: int) -> int | None:
    root = pow(square, (PRIME + 3) // 8, PRIME)
    roots = (root, root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME)
    return next((one for one in roots if one * one % PRIME == square), None)


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Add two points: the complete law of RFC 8032 5.1.4, in two coordinates."""
    (x, y), (z, w) = one, other
    across = CURVE * x * y * z * w
    return (
        (x * w + z * y) * pow(1 + across, -1, PRIME) % PRIME,
        (y * w + x * z) * pow(1 - across, -1, PRIME) % PRIME,
    )


EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize(
    ("expected", "y"),
    [
        *((4, 0), (1, 1), (8, EIGHTH), (8, PRIME - EIGHTH), (2, PRIME - 1), (4, PRIME), (1, PRIME + 1)),
        *((0, 2), (0, 4 * pow(5, -1, PRIME)), (0, PRIME - 2)),
    ],
)
def test_a_point_of_small_order_is_no_key(expected: int, y: int, sign: int) -> None:
    """In all spellings, also those that are not reduced: signatures by it need no private key."""
    y %= 1 << 255
    assert expected == order(y)
    spelt = (y | sign << 255).to_bytes(32, "little").hex()
    of = Way(verify="ed25519", key_encoding="hex")
    if expected:
        with pytest.raises(Unreadable, match="small order"):
            key(of, spelt)
    else:
        assert bytes.fromhex(spelt) == key(of, spelt)


def test_what_a_broken_preset_lacks_is_not_told(tmp_path: Path) -> None:
    """The source is not blamed for what nobody could read."""
    path = write(tmp_path, {"source": {"g": {"preset": "mine", "secrets": "env:PLAIN"}}})
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "mine.toml").write_text('verify = "hmac')
    (problem,) = problems(path, VALUES)
    assert (str(tmp_path / "sources" / "mine.toml"), 1) == (problem.file, problem.line)

    (tmp_path / "sources" / "mine.toml").write_text('verify = "hmacc"\nheader = "x-signature"')
    (problem,) = problems(path, VALUES)
    assert "verify" == problem.key


@pytest.mark.parametrize(("text", "why"), [("whsec_%%%", "not base64"), ("whsec_", "empty")])
def test_what_is_no_key_says_why(text: str, why: str) -> None:
    """And nothing of its value."""
    with pytest.raises(Unreadable) as caught:
        key(Way(verify="hmac", key_encoding="base64", strip_key_prefix="whsec_"), text)
    assert why == str(caught.value)


def test_only_a_preset_may_leave_the_body_unsigned(tmp_path: Path) -> None:
    """Mailgun does; whoever needs the like writes a preset, and events are then authenticated at best."""
    mailgun = HMAC | {"signed": "{header:x-id}"}
    write(tmp_path, mailgun, "sources/mine.toml")
    assert loaded(tmp_path, "PLAIN", preset="mine").ways

    found = problems(write(tmp_path, with_source(**mailgun, secrets="env:PLAIN")), ENVIRON | VALUES)
    assert ["the body is not signed: anyone could change it"] == [one.what for one in found]
