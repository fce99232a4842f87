"""docs/sources.md, as the files of relay/sources have it."""

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final

from presets import NAMES, file, listed, told

from relay.event import Trust
from relay.match.operator import OPERATORS
from relay.schema import WayFile
from relay.source import Preset
from relay.verify import SIGNATURES
from relay.verify.key import PUBLIC

WIDTH: Final = 120

INTRO: Final = """\
# Sources

Who may post is a `[source.NAME]` of your [rules](rules.md), and what relay knows of a sender is a preset: a
file of `relay/sources/`. Each holds the sender's page, samples of what it posts, and signatures that were
seen elsewhere; the tests run them all. This page is written from these files.

To take up one of them: do at the provider what its section says, paste the table into your `rules.toml`, put
the secret (16 bytes or more) into the environment, or name a file (`file:/path`), and start `relay serve`.
Then try it, in another shell with the same environment:

```sh
relay send github                       # the preset's first sample, signed as GitHub would, as of now
relay send github --list                # which samples there are
relay send github --sample recovered
```

Where relay holds only public keys, nobody but the provider can sign: `relay send discord --key discord.pem`
makes a key of your own, and says where its public half belongs for as long as you try; it says so again until
relay knows it. Senders sign with keys of different kinds, so take a file for each. Two accounts at one
provider are two sources with one preset: `[source.ANOTHER-NAME]`, and the path is `/hooks/ANOTHER-NAME`.

- **verified**: the body is the sender's, to the byte. **authenticated**: the sender knew a secret, and
  nothing shows that the body is whole: relay looks at the resource before it calls, where the provider has
  a check.
- *Failed* and *recovered* are what rules ask for with `when."$failed" = true` and `when."$recovered" = true`.
  The words in these columns are values in the events; the preset's file has the whole pattern.
- `{$resource}` is what an event is about, by a name that stays when it is run again, wherever there is one.

"""

MADE_UP: Final = {
    "jwt": """\
audience = "https://YOUR-HOST/hooks/NAME"
claims.email = "NAME@PROJECT.iam.gserviceaccount.com"
""",
    "sns": 'topics  = ["arn:aws:sns:eu-central-1:123456789012:YOUR-TOPIC"]\n',
}
"""What no preset can know."""


def page() -> str:
    """Write the whole page."""
    presets = sorted(map(told, NAMES), key=lambda one: one.title.casefold())
    lines = [
        "| preset | sender | proof | trust | failed | recovered |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(_row(one))} |" for one in presets),
    ]
    return INTRO + "\n".join(lines) + "\n" + "".join(map(_section, presets))


# -- the overview --


def _row(preset: Preset) -> Iterator[str]:
    name = preset.name
    yield f"[`{name}`](#{anchor(preset.title)})"
    yield f"[{preset.title}]({preset.docs})"
    yield proof(listed(name))
    yield " or ".join(sorted(set(map(trust, listed(name))), reverse=True))
    yield _said(file(name).failed)
    yield _said(file(name).recovered)


def anchor(title: str) -> str:
    """Return the anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def proof(ways: Iterable[WayFile]) -> str:
    """Say in words how a sender proves who it is; ways that differ by a name alone are told together."""
    places: dict[tuple[str, str], list[str]] = {}
    for way in ways:
        kind, place, more = _proof(way)
        places.setdefault((kind, more), []).append(place)
    kinds: dict[tuple[str, str], list[str]] = {}
    for (kind, more), found in places.items():
        kinds.setdefault((" or ".join(filter(None, found)), more), []).append(kind)
    return "; or ".join(
        f"{' or '.join(found)}{place and ' in '}{place}{more}" for (place, more), found in kinds.items()
    )


def _proof(way: WayFile) -> tuple[str, str, str]:
    """Return the kind of a proof, where it stands, and what else is to be said."""
    header = f"`{way.header.title()}`"
    address = ", with the address" if "{url}" in way.signed or way.verify == "twilio" else ""
    timed = ", with a time" if way.timestamp and "{timestamp}" in way.signed else ""
    timed = timed or (", with a time in the body" if way.timestamp else "")
    match way.verify:
        case "hmac":
            place = f"`{way.field}` of the body" if way.place == "body" else header
            return f"HMAC-{way.algorithm.upper()}", place, address + timed
        case "twilio":
            return "HMAC-SHA1", header, address
        case "ed25519":
            return "Ed25519", header, timed
        case "ecdsa-p256":
            return "ECDSA P-256", header, timed
        case "token":
            return "a token", "the path" if way.place == "path" else header, ""
        case "basic":
            return "user and password", "`Authorization` (basic)", ""
        case "jwt":
            return "a signed token (JWT)", header, ""
        case "sns":
            return "Amazon's signature", "the body", ""
        case other:
            return str(other), "", ""


def trust(way: WayFile) -> Trust:
    """Say how far a sender is known that has shown who it is in one way."""
    covered = way.verify in {"sns", "twilio"} or (way.verify in SIGNATURES and "{body}" in way.signed)
    return Trust.VERIFIED if covered else Trust.AUTHENTICATED


def _said(pattern: dict[str, Any] | None) -> str:
    return ", ".join(f"`{one}`" for one in dict.fromkeys(_values(pattern or {}))) or "none"


def _values(pattern: dict[str, Any]) -> Iterator[str]:
    """Yield of each alternative the words that its last field with words asks for."""
    if "any-of" in pattern:
        for one in pattern["any-of"]:
            yield from _values(pattern | one if len(pattern) > 1 and one.keys() != {"any-of"} else one)
        return
    words = [found for value in pattern.values() if (found := list(_words(value)))]
    yield from words[-1] if words else ()


def _words(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from _words(one)
        case {"prefix": str() as start}:
            yield f"{start}…"
        case {"wildcard": str() as text}:
            yield text
        case dict() if not value.keys() & OPERATORS.keys():
            yield from _values(value)
        case _:
            return


# -- a section --


def _section(preset: Preset) -> str:
    name = preset.name
    steps = "".join(wrapped(f"{number}. {step}", " " * 3) for number, step in enumerate(preset.setup, 1))
    samples = ", ".join(f"`{one.name}`" for one in preset.samples)
    return (
        f"\n## {preset.title}\n\n"
        f"[{preset.docs.removeprefix('https://').rstrip('/')}]({preset.docs}), "
        f"[relay/sources/{name}.toml](../relay/sources/{name}.toml)\n\n"
        f"{steps}\n```toml\n{table(name)}```\n\n"
        f"{wrapped(f'Try it: `{command(name)}`. Samples: {samples}.')}\n"
        f"{wrapped(preset.notes)}"
    )


def table(name: str) -> str:
    """Return what is pasted into rules.toml."""
    ways = listed(name)
    lines = f'[source.{name}]\npreset  = "{name}"\n'
    spending = [one for one in ways if one.verify not in MADE_UP]
    if spending:
        lines += f'secrets = "env:{variable(name, spending[0])}"{_spelt(spending[0])}\n'
    if any(one.verify == "twilio" or "{url}" in one.signed for one in ways):
        lines += (
            f'public_url = "https://YOUR-HOST/hooks/{name}"    # as the provider has it, less its query\n'
        )
    more = "".join(MADE_UP[str(one.verify)] for one in ways if one.verify in MADE_UP)
    return lines + more.replace("/hooks/NAME", f"/hooks/{name}")


def variable(name: str, way: WayFile) -> str:
    """Name the variable of a source's secret."""
    kind = {"token": "HOOK_TOKEN", "basic": "HOOK_LOGIN"}.get(str(way.verify), "HOOK_SECRET")
    return f"{name.upper().replace('-', '_')}_{'PUBLIC_KEY' if way.verify in PUBLIC else kind}"


def _spelt(way: WayFile) -> str:
    return "    # user:password" if way.verify == "basic" else ""


def command(name: str) -> str:
    """Return the line that tries a source."""
    keyed = all(one.verify in {*PUBLIC, *MADE_UP} for one in listed(name))
    return f"relay send {name} --key {name}.pem" if keyed else f"relay send {name}"


def wrapped(text: str, below: str = "") -> str:
    """Break a paragraph into lines."""
    lines: Iterable[str] = textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        subsequent_indent=below,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"
