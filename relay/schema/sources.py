"""What may stand in ``[source.NAME]``, and in a source's preset?"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from relay.schema.units import Duration, Rate, Strict, Table, Texts, between, defaults, said
from relay.source import Source, Way

_SOURCE: Final = defaults(Source)
_WAY: Final = defaults(Way)


class WayFile(Strict):
    """How a sender shows who it is."""

    verify: (
        Literal["hmac", "ed25519", "ecdsa-p256", "token", "basic", "jwt", "sns", "twilio", "none"] | None
    ) = Field(None, description="how senders prove who they are")
    header: str = Field(_WAY["header"], description="the header of the signature or token")
    place: Literal["header", "path", "body"] = Field(
        _WAY["place"], alias="in", description="where the token or signature stands"
    )
    algorithm: Literal["sha256", "sha512", "sha1"] = Field(_WAY["algorithm"], description="the HMAC's hash")
    encoding: Literal["hex", "any-case-hex", "base64", "base64url"] = Field(
        _WAY["encoding"], description="how the signature is written; hex is in small letters"
    )
    format: Literal["plain", "list"] = Field(
        _WAY["format"], description="plain: one signature; list: items, as in t=1614556800,v1=5257a8…"
    )
    item_separator: str = Field(_WAY["item_separator"], min_length=1, description="list: between items")
    key_separator: str = Field(
        _WAY["key_separator"], min_length=1, description="list: between an item's key and its value"
    )
    field: str = Field(
        _WAY["field"], description="list: the key of signatures; in the body: the path to the signature"
    )
    prefix: str = Field(
        _WAY["prefix"],
        description="what stands before the signature or token; a token in Authorization has 'Bearer '",
    )
    signed: str = Field(
        _WAY["signed"],
        description="what is signed: {body} {timestamp} {url} {method} {header:NAME} {body:PATH}, and text",
    )
    timestamp: str = Field(
        _WAY["timestamp"], description="where the signed time is: header:NAME, field:KEY of a list, body:PATH"
    )
    timestamp_unit: Literal["s", "ms", "iso"] = Field(_WAY["timestamp_unit"], description="how it is written")
    tolerance: Annotated[int, between("1s", "1d")] = Field(
        said(_WAY["tolerance_ms"]),
        validate_default=True,
        description="how far it may be from now, on both sides",
    )
    key_encoding: Literal["utf8", "base64", "hex"] = Field(
        _WAY["key_encoding"], description="how the secret spells the key"
    )
    strip_key_prefix: str = Field(
        _WAY["strip_key_prefix"], description="what secrets may begin with that is no part of the key: whsec_"
    )
    keys: str = Field(
        _WAY["keys"],
        description="jwt: where the public keys are (JWKS); sns: a certificate in place of Amazon's; "
        "https://… or file:/…",
    )
    issuer: Texts = Field([], description="jwt: who may have issued the token")
    audience: str = Field(_WAY["audience"], description="jwt: for whom it must be")
    claims: dict[str, Any] = Field({}, description="jwt: what else it must say")
    topics: Texts = Field([], description="sns: the ARNs of topics whose messages are taken")


class HandshakeFile(Strict):
    """``[[handshake]]``: what a sender asks before it trusts an address, and the answer."""

    when: Table = Field(description="a pattern over the body, or over its $headers")
    text: str = Field("", description="a template for an answer of plain text…")
    json_: Any = Field(None, alias="json", description="…or for one of JSON")


class SourceLimitFile(Strict):
    """How often a source may post."""

    rate: Rate = Field(description='posts in a time: "600/min"; more are answered 429')
    burst: int = Field(10, ge=1, description="posts at once after a rest")


class _Kept(WayFile):
    """What presets and sources have in common."""

    also: list[WayFile] = Field([], description="other ways in which the same sender may prove who it is")
    body: Literal["json", "form", "cloudevents"] = Field(_SOURCE["reads"], description="how a body is read")
    form_field: str = Field(
        _SOURCE["form_field"], description="form: the field that holds JSON, where there is one"
    )
    nested: Texts = Field(
        [], description="where an object stands inside a text: Message; in base64: base64:message.data"
    )
    split: str | None = Field(
        None,
        description='where a body has a list of events, each its own: "alerts"; "": the body is the list',
    )
    handshake: list[HandshakeFile] = Field([], description="what a sender asks before it trusts an address")
    delivery: Texts = Field(
        [], description="where the id of a delivery is: body:src.id or header:x-id; first found; a+b joins"
    )
    type: Texts = Field([], description="where the type of an event is, in the same way")
    resource: Texts = Field([], description="where it says what it is about, in the same way: {$resource}")
    time: Texts = Field([], description="where the time is at which it happened, in the same way")
    failed: Table | None = Field(
        None, description="a pattern over an event that says: it has failed; rules ask for it by $failed"
    )
    recovered: Table | None = Field(
        None, description="a pattern over the body of an event that says: it is well"
    )
    redact: Texts = Field([], description="names of JSON members to cut before anything is stored")
    max_bytes: int = Field(
        _SOURCE["max_bytes"], ge=1, le=1 << 30, description="the largest body taken, in bytes"
    )
    dedupe: Duration = Field(
        said(_SOURCE["dedupe_ms"]),
        validate_default=True,
        description="how long a delivery is known as a duplicate",
    )
    limit: SourceLimitFile | None = Field(None, description="how often it may post")
    answer: Annotated[int, Field(ge=200, le=299)] = Field(
        _SOURCE["answer"], description="the status that tells the sender that an event was kept"
    )


class SampleEventFile(Strict):
    """``[[sample.event]]``: one event that a sample holds."""

    type: str | None = Field(None, description="its type")
    delivery: str | None = Field(None, description="its id")
    resource: str | None = Field(None, description="what it is about")
    time: str | None = Field(None, description="when it happened")
    tells: Literal["failed", "recovered", ""] = Field("", description="what it says of the resource")


class SampleFile(Strict):
    """``[[sample]]``: a delivery as the provider sends it, and what relay makes of it."""

    name: str = Field(min_length=1, description="its name: relay send SOURCE --sample NAME")
    headers: dict[str, str] = Field({}, description="its headers, without the signature")
    query: str = Field("", description="its query")
    body: str = Field("", description="its body, to the byte")
    event: list[SampleEventFile] = Field([], description="the events that it holds")
    handshake: Any = Field(None, description="or, if it is a handshake, the answer")


class VectorFile(Strict):
    """``[[vector]]``: a published signature."""

    origin: str = Field(min_length=1, description="where it was published")
    secret: str = Field(min_length=1, description="the published secret")
    headers: dict[str, str] = Field(description="the delivery's headers")
    body: str = Field(description="its body, to the byte")
    now: int | None = Field(None, description="when it was sent, in seconds, if the signature has a time")
    public_url: str = Field("", description="the address that it was sent to, if that is signed")
    query: str = Field("", description="and its query")
    way: Table = Field({}, description="keys in which it differs from the preset")


class PresetFile(_Kept):
    """``sources/NAME.toml``: how a well-known sender proves who it is, and where it keeps its ids."""

    title: str = Field("", description="the provider's name, for people")
    docs: str = Field("", description="the provider's page about its webhooks")
    setup: Texts = Field([], description="what to do at the provider, step by step")
    notes: str = Field("", description="what bites")
    sample: list[SampleFile] = Field([], description="deliveries as the provider sends them")
    vector: list[VectorFile] = Field([], description="published signatures")


class SourceFile(_Kept):
    """``[source.NAME]``: who may post to /hooks/NAME."""

    preset: str = Field("", description="a file of sources/ that fills in the rest")
    secrets: Texts = Field([], description="env:NAME or file:/path; several while one replaces another")
    public_url: str = Field(
        _WAY["public_url"], description="this source's address as its sender knows it, if that is signed"
    )
    origins: Texts = Field([], description="who may ask by OPTIONS whether it may post (CloudEvents)")
    i_know_this_is_unauthenticated: Literal[True] | None = Field(
        None, description='must be true with verify = "none": anyone can post events here'
    )


ABOUT: Final = frozenset(PresetFile.model_fields) - frozenset(_Kept.model_fields)
"""Keys that tell of a preset, and of which a source has no use."""
