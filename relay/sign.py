"""How would a sender sign this?  For `relay send`, for the demo and for tests."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from relay import mint
from relay.body import Unparsable, parse
from relay.errors import Unfit
from relay.event import Millis
from relay.source import Incoming, Source, Way
from relay.verify.cover import cover, parts
from relay.verify.key import PUBLIC, Unreadable, key, mac, text_bytes
from relay.verify.proof import Flaw, Flawed
from relay.verify.shown import Shown
from relay.verify.spell import write
from relay.verify.stamp import off, written
from relay.verify.ways import twilio

KEYED: Final = PUBLIC | {"jwt", "sns"}
"""Ways for which we hold public keys only: to sign takes a private one."""


def sign(source: Source, incoming: Incoming, now: Millis, key: bytes | None = None) -> Incoming:
    """
    Return *incoming* with what shows *source* that its sender sent it at *now*: headers, path, query, body.

    *key* is a private key in PEM, for ways whose secrets are public ones. Of several ways it is the first for
    which there is what it takes. A timestamp in the body becomes *now* where it is too old; an id that is
    signed, and missing, is made up. Raises Unfit where the key is missing or of another kind, or where the
    body has no room for what must stand in it.
    """
    if source.open:
        return incoming
    ways = [way for way in source.ways if way.secrets or way.verify in KEYED]
    if not ways:
        raise Unfit(f"{source.name} has no secret to sign with")
    way = next((one for one in ways if (one.verify in KEYED) == (key is not None)), ways[0])
    if way.verify in KEYED:
        if key is None:
            raise Unfit(f"{source.name} holds public keys ({way.verify}): to sign takes a private key")
        return _by_key(way, incoming, now, key)
    secret = way.secrets[0].reveal()
    match way.verify:
        case "token" if way.place == "path":
            return replace(incoming, token=secret)
        case "token":
            return _with(incoming, way.header, way.prefix + text_bytes(secret).decode("latin-1"))
        case "basic":
            return _with(incoming, way.header, f"Basic {base64.b64encode(text_bytes(secret)).decode()}")
        case "twilio":
            return _as_twilio(way, incoming, _readable(way, secret))
        case _:
            own = _readable(way, secret)
            prepared, stamp = _prepared(way, incoming, now)
            return _shown(way, prepared, stamp, mac(way, own, _covered(way, prepared, stamp)))


def _by_key(way: Way, incoming: Incoming, now: Millis, pem: bytes) -> Incoming:
    if way.verify == "jwt":
        return mint.jwt(way, incoming, now, pem)
    if way.verify == "sns":
        return mint.sns(way, incoming, now, pem)
    own = mint.private(pem)
    prepared, stamp = _prepared(way, incoming, now)
    signed = _covered(way, prepared, stamp)
    if way.verify == "ed25519" and isinstance(own, Ed25519PrivateKey):
        return _shown(way, prepared, stamp, own.sign(signed))
    if way.verify == "ecdsa-p256" and isinstance(own, EllipticCurvePrivateKey):
        if not isinstance(own.curve, SECP256R1):
            raise Unfit("ecdsa-p256: the private key is on another curve")
        return _shown(way, prepared, stamp, own.sign(signed, ECDSA(SHA256())))
    raise Unfit(f"{way.verify}: the private key is of another kind")


def _readable(way: Way, secret: str) -> bytes:
    try:
        return key(way, secret)
    except Unreadable as error:
        raise Unfit(f"the secret is no key: {error}") from None


def _covered(way: Way, incoming: Incoming, stamp: str) -> bytes:
    try:
        return cover(way, Shown(incoming), stamp)
    except Flawed as error:
        raise Unfit(f"what is signed can't be read from this delivery: {error}") from None


def _with(incoming: Incoming, name: str, value: str) -> Incoming:
    return replace(incoming, headers={**incoming.headers, name: (value,)})


def _as_twilio(way: Way, incoming: Incoming, own: bytes) -> Incoming:
    if "bodySHA256=" not in incoming.query and incoming.body and not Shown(incoming).is_form():
        said = f"bodySHA256={hashlib.sha256(incoming.body).hexdigest()}"
        incoming = replace(incoming, query=f"{incoming.query}&{said}" if incoming.query else said)
    try:
        signed, _ = twilio(way, incoming)
    except Flawed as error:
        raise Unfit(f"what Twilio signs can't be read from this delivery: {error}") from None
    return _with(incoming, way.header, write(mac(way, own, signed), "base64"))


# -- what is signed besides the body --


def _prepared(way: Way, incoming: Incoming, now: Millis) -> tuple[Incoming, str]:
    """Put the time, and an id that is signed and missing, where the way has them; return the time, too."""
    made_up = f"msg_{hashlib.sha256(b'%d %b' % (now, incoming.body)).hexdigest()[:24]}"
    stamp = written(way, now) if way.timestamp else ""
    where, _, name = way.timestamp.partition(":")
    if where == "header":
        incoming = _with(incoming, name.lower(), stamp)
    for part in parts(way.signed):
        if part.what == "header" and not incoming.headers.get(part.name):
            incoming = _with(incoming, part.name, made_up)
        elif part.what == "member" and not (where == "body" and part.name == name):
            incoming = _lacking(incoming, part.name, made_up)
    if where == "body":
        incoming, stamp = _stamped(way, incoming, name, now)
    return incoming, stamp


def _stamped(way: Way, incoming: Incoming, path: str, now: Millis) -> tuple[Incoming, str]:
    try:
        sent = Shown(incoming).member(path)
        fits = off(way, sent, now) is None
    except Flawed:
        sent, fits = "", False
    if fits:
        return incoming, sent
    stamp = written(way, now)
    # Numbers are written as such, unless a text stands there.
    number = way.timestamp_unit != "iso" and f'"{sent}"'.encode() not in incoming.body
    return _put(incoming, path, int(stamp) if number else stamp), stamp


def _lacking(incoming: Incoming, path: str, value: str) -> Incoming:
    try:
        Shown(incoming).member(path)
    except Flawed as error:
        return _put(incoming, path, value) if error.flaw is Flaw.MISSING else incoming
    return incoming


def _put(incoming: Incoming, path: str, value: str | int) -> Incoming:
    """Put *value* at a dotted *path* of the body, which is JSON. Raises Unfit."""
    try:
        data: Any = parse(incoming.body)
    except Unparsable as error:
        raise Unfit(f"{path} must stand in the body, and it is {error}") from None
    here, (*steps, last) = data, path.split(".")
    for step in steps:
        here = here.setdefault(step, {}) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        raise Unfit(f"{path} must stand in the body, which has no room for it")
    here[last] = value
    return replace(incoming, body=orjson.dumps(data))


def _shown(way: Way, incoming: Incoming, stamp: str, signature: bytes) -> Incoming:
    """Put the signature where the way has it."""
    spelt = write(signature, way.encoding)
    if way.place == "body":
        return _put(incoming, way.field, way.prefix + spelt)
    if way.format == "list":
        pairs: Mapping[str, str] = {way.field: spelt}
        where, _, name = way.timestamp.partition(":")
        if where == "field":
            pairs = {name: stamp, way.field: spelt}
        spelt = way.item_separator.join(f"{key}{way.key_separator}{value}" for key, value in pairs.items())
    return _with(incoming, way.header, way.prefix + spelt)
