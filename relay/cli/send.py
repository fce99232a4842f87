"""How is a source tried?  A sample is signed as its sender would sign it, and posted to a running relay."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote

import click
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from relay import log, mint
from relay.cli import options, talk
from relay.cli.fresh import fresh
from relay.clock import now_ms
from relay.condition import listed as joined
from relay.condition import near
from relay.errors import ConfigError, Problem, Unfit
from relay.event import Json, Millis, Trust
from relay.inner import HEADER, OURS
from relay.load import load
from relay.load import preset as preset_of
from relay.provider import Reply, Request
from relay.sign import KEYED, sign
from relay.source import Incoming, Method, Preset, Sample, Source, Way
from relay.verify import verify
from relay.verify.sns import WEAKEST

TYPES: Final = {
    "json": "application/json",
    "form": "application/x-www-form-urlencoded",
    "cloudevents": "application/cloudevents+json",
}
"""The content type of a body that comes without one, by how the source reads it."""

KINDS: Final[Mapping[Method, tuple[str, ...]]] = {
    "ed25519": ("Ed25519",),
    "ecdsa-p256": ("ECDSA P-256",),
    "jwt": ("RSA", "ECDSA P-256"),
    "sns": ("RSA",),
}
"""Which private keys sign, by how the sender shows who it is: all of `relay.sign.KEYED`."""

ANSWERED: Final = {"event", "calls", "duplicate"}
"""What stands in relay's answer to an event."""


@click.command()
@click.argument("source")
@click.argument("event", metavar="[EVENT.json]", required=False, type=options.FILE)
@click.option("--sample", metavar="NAME", help="One of the preset's samples; without it, the first.")
@click.option("--list", "listed", is_flag=True, help="Show which samples there are, and send nothing.")
@click.option("--exact", is_flag=True, help="Send the sample to the byte: the second time it is a duplicate.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
@click.option(
    "--key", type=options.FILE, metavar="FILE",
    help="A private key (PEM), where relay holds a public one. Made if it is not there.",
)  # fmt: skip
@options.rules
@options.to(default="http://127.0.0.1:8080", show_default=True, help="Where relay runs.")
@options.as_json
def send(
    source: str,
    event: Path | None,
    sample: str | None,
    listed: bool,  # noqa: FBT001 - click's way
    exact: bool,  # noqa: FBT001
    headers: tuple[str, ...],
    key: Path | None,
    rules: Path,
    to: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """
    Sign a sample event, and post it to a running relay.

    It is signed as SOURCE would. Without EVENT.json it is a sample of the source's preset, with a new id and
    the time of now. EVENT.json may be - for standard input; with --sample it takes that sample's headers.
    """
    talk.address(to)
    by, lacks = _source(rules, source, secrets=not listed, keyed=key is not None)
    preset = preset_of(rules, source)
    if listed:
        _list(by, preset, as_json=as_json)
        return
    private = _key(by, key) if key is not None else None
    if key is not None and private is None:
        _introduce(by, key, _made(by, key))
    if key is not None and private is not None and lacks:
        for problem in lacks:
            click.echo(log.plain(str(problem)), err=True)
        _introduce(by, key, private)
    if private is None and by.ways and all(way.verify in KEYED for way in by.ways):
        raise click.UsageError(
            f"relay holds the public key of {by.name}, and only the private one signs; "
            "to try it with one of your own: --key FILE (made, if it is not there)"
        )
    now = now_ms()
    chosen = _sample(by, preset, sample) if event is None or sample else Sample(name="")
    chosen = _ready(by, chosen, event, now, exact=exact)
    shown = sign(by, _incoming(by, chosen, headers), now, private)
    if key is not None and private is not None and not _believed(by, shown, now):
        _introduce(by, key, private)
    answer = talk.ask(_request(to, by.name, shown))
    if not isinstance(answer, Reply):
        click.echo(f"relay: {to}: {answer.why} (is `relay serve` running there?)", err=True)
        raise SystemExit(1)
    _tell(by, answer, to, chosen.name, as_json=as_json)


def _source(rules: Path, name: str, *, secrets: bool, keyed: bool) -> tuple[Source, Sequence[Problem]]:
    """
    Return a source, and what is wrong with its secrets, if it is *keyed*: a key is made for want of them.

    Raises ConfigError for all else that is wrong.
    """
    lacks: Sequence[Problem] = ()
    if secrets:
        try:
            return options.source(load(rules, os.environ, only=name), name), ()
        except ConfigError as error:
            if not keyed:
                raise
            lacks = error.problems
    return options.source(load(rules, os.environ, secrets=False), name), lacks


# -- what is sent --


def _sample(by: Source, preset: Preset | None, name: str | None) -> Sample:
    """Return one of a preset's samples. Raises UsageError where there is none of that name."""
    samples = preset.samples if preset else ()
    if not samples:
        raise click.UsageError(f"the source {by.name} has no preset with samples: say EVENT.json")
    known = [one.name for one in samples]
    if name is None:
        return samples[0]
    if name not in known:
        hint = near(name, known) or f"see relay send {by.name} --list"
        raise click.UsageError(f"there is no sample '{log.plain(name)}' ({hint})")
    return samples[known.index(name)]


def _ready(by: Source, chosen: Sample, event: Path | None, now: Millis, *, exact: bool) -> Sample:
    """Make a sample fresh, unless it must be *exact*; a body of one's own is sent as it is."""
    if event is None:
        return chosen if exact else fresh(by, chosen, now)
    headers = chosen.headers if exact else fresh(by, chosen, now).headers
    return replace(chosen, headers=headers, body=options.read(event))


def _incoming(by: Source, chosen: Sample, more: Sequence[str]) -> Incoming:
    headers = {"content-type": TYPES[by.reads], **chosen.headers}
    for one in more:
        name, equals, value = one.partition("=")
        if not equals or not HEADER.fullmatch(name) or name.lower() in OURS:
            what = f"expected NAME=VALUE, got '{log.plain(one)}'"
            raise click.BadParameter(what, param_hint="--header")
        headers[name.lower()] = value
    return Incoming(
        headers={name: (value,) for name, value in headers.items()}, body=chosen.body, query=chosen.query
    )


def _request(to: str, name: str, shown: Incoming) -> Request:
    path = "/".join(quote(step, safe="") for step in (name, shown.token) if step)
    return Request(
        method="POST",
        url=f"{to.rstrip('/')}/hooks/{path}" + (f"?{shown.query}" if shown.query else ""),
        headers=tuple((name, value) for name, values in shown.headers.items() for value in values),
        body=shown.body,
    )


# -- private keys, where relay holds public ones --


def _keyed(by: Source) -> Way:
    """Return the source's way whose keys are public. Raises UsageError."""
    for way in by.ways:
        if way.verify in KEYED:
            return way
    raise click.UsageError(f"{by.name} signs with its secret, which relay knows: it takes no --key")


def _key(by: Source, file: Path) -> bytes | None:
    """Read the private key; None if it is not there yet. Raises Unfit if it is not of the source's kind."""
    wanted = KINDS[_keyed(by).verify]
    if not file.exists():
        return None
    raw = options.read(file)
    try:
        found = _kind(mint.private(raw))
    except Unfit as error:
        raise Unfit(f"{file}: {error}; take another file") from None
    if found not in wanted:
        what = f"the key is {found}, and {by.name} signs with {joined(wanted, 'or')}"
        raise Unfit(f"{file}: {what}; take another file")
    return raw


def _kind(key: mint.Private) -> str:
    """Name the kind of a private key as `KINDS` does, or in words that stand in none of them."""
    match key:
        case rsa.RSAPrivateKey():
            return "RSA" if key.key_size >= WEAKEST else f"RSA of {key.key_size} bits"
        case ec.EllipticCurvePrivateKey():
            return f"ECDSA {'P-256' if isinstance(key.curve, ec.SECP256R1) else key.curve.name}"
        case _:
            return "Ed25519"


def _made(by: Source, file: Path) -> bytes:
    """Make a private key that only its user can read. Raises ConfigError."""
    found = mint.fresh(_keyed(by).verify)
    _write(file, found, 0o600)
    click.echo(f"{file}: a new private key")
    return found


def _write(file: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
    except OSError as error:
        what = f"can't be written: {(error.strerror or str(error)).lower()}"
        raise ConfigError([Problem(file=str(file), what=what)]) from None


def _believed(by: Source, shown: Incoming, now: Millis) -> bool:
    """Say if the rules know the key's public half."""
    files = {way.keys for way in by.ways if way.keys.startswith("file:")}
    places = {one: Path(one.removeprefix("file:")) for one in files}
    held = {one: place.read_bytes() for one, place in places.items() if place.is_file()}
    return verify(by, shown, now, held).trust is not Trust.FAILED


def _introduce(by: Source, file: Path, private: bytes) -> NoReturn:
    """Say how relay gets to know a private key's public half, and end with code 1."""
    where, steps = _steps(by, _keyed(by), file, private)
    click.echo(
        f"relay does not know its public half yet. To try {by.name} with it, put this into {where},\n"
        "here and where relay runs, in the place of what stands there:\n",
        err=True,
    )
    for step in steps:
        click.echo(f"    {step}", err=True)
    click.echo("\nThen send again. Put the provider's own back when you have seen it work.", err=True)
    raise SystemExit(1)


def _steps(by: Source, way: Way, file: Path, private: bytes) -> tuple[str, list[str]]:
    """Say where the public half belongs, and what must stand there; write its file, if it needs one."""
    if way.verify in {"jwt", "sns"}:
        token = way.verify == "jwt"
        beside = file.absolute().with_name(f"{file.name}.{'jwks' if token else 'crt'}")
        if not beside.exists():
            _write(beside, mint.jwks(private) if token else mint.certificate(private, now_ms()), 0o644)
        return "the rules", [f"[source.{by.name}]", f'keys = "file:{beside}"']
    kind, _, place = next((secret.origin for secret in way.secrets), "env:NAME").partition(":")
    public = mint.public(way, private)
    return ("the environment", [f"export {place}={public}"]) if kind == "env" else (place, [public])


# -- what came of it --


def _tell(by: Source, answer: Reply, to: str, sample: str, *, as_json: bool) -> None:
    """Print what relay answered. Exits with 1 where it kept nothing, and greeted nobody."""
    told = talk.told(answer)
    taken = answer.status in {200, 202, by.answer} and told.keys() >= ANSWERED
    kept = answer.status == by.answer and answer.status == 204
    greeted = answer.status == 200 and not taken and bool(by.handshakes)
    greeting: Json = told or answer.body.decode("utf-8", "replace")
    about = {"sample": sample} if sample else {}
    if as_json:
        said = {"handshake": greeting} if greeted else told
        options.print_json({"status": answer.status} | about | said)
    elif taken or kept or greeted:
        line = _said(told) if taken else "kept" if kept else f"a handshake, answered with {_short(greeting)}"
        named = f" (sample '{sample}')" if sample else ""
        click.echo(log.plain(f"{answer.status}: {line}{named}"))
    else:
        words = [told[key] for key in ("title", "detail") if key in told] or ["this is not relay's answer"]
        click.echo(log.plain(f"relay: {to}: {answer.status}: {', '.join(map(str, words))}"), err=True)
        if answer.status == 401:
            click.echo(
                f"relay: is [source.{by.name}] in the rules that run there, with the same secret as in this "
                "shell? And do the clocks agree? (hook.refused in relay's log has the reason)",
                err=True,
            )
    if not (taken or kept or greeted):
        raise SystemExit(1)


def _said(told: dict[str, Any]) -> str:
    events = told.get("events") or [told["event"]]
    several = f"{len(events)} events" if len(events) > 1 else "event"
    number = f"{told['calls']} call{'' if told['calls'] == 1 else 's'}"
    again = ", a duplicate of an earlier one" if told["duplicate"] else ""
    return f"{several} {' '.join(map(str, events))}, {number}{again}"


def _short(greeting: Json) -> str:
    return greeting if isinstance(greeting, str) else json.dumps(greeting)


def _list(by: Source, preset: Preset | None, *, as_json: bool) -> None:
    """Print a preset's samples, and what each of them tells."""
    samples = preset.samples if preset else ()
    if as_json:
        rows = [
            {"name": one.name, "events": list(map(dict, one.events)), "handshake": one.handshake}
            for one in samples
        ]
        options.print_json({"items": rows})
        return
    if not samples:
        click.echo(f"The source {by.name} has no preset with samples: relay send {by.name} EVENT.json")
    else:
        options.table(
            ("name", "type", "tells"),
            [
                (
                    one.name,
                    ", ".join(dict.fromkeys(str(event.get("type") or "") for event in one.events)),
                    ", ".join(dict.fromkeys(str(event.get("tells") or "") for event in one.events))
                    if one.handshake is None
                    else "a handshake",
                )
                for one in samples
            ],
            below=0,
        )
