"""Published signatures, and what has to be said of a source so that they hold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.document import Document, read
from relay.errors import Problem
from relay.event import Millis
from relay.load import BUILT_IN
from relay.schema import PresetFile
from relay.secret import Secret
from relay.source import Incoming, Source, Way
from relay.way import ways_with

_SAID = {
    **{key: key for key in ("algorithm", "encoding", "format", "prefix", "signed", "field", "key_encoding")},
    **{key: key for key in ("header", "strip_key_prefix", "timestamp_unit")},
    "scheme": "verify",
    "item_sep": "item_separator",
    "kv_sep": "key_separator",
    "timestamp_header": "timestamp",
    "timestamp_field": "timestamp",
    "tolerance": "tolerance_ms",
}
"""The file's words, and ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One signature that was published, with all that it takes to verify it."""

    name: str
    secret: str
    keys: Mapping[str, Any]  #: of the way of proof, as `Way` has them
    incoming: Incoming
    now: Millis
    public_url: str

    def source(self, *secrets: str) -> Source:
        """Return the source that believes it, by its own secret or by *secrets*."""
        held = tuple(Secret(text, f"env:{number}") for number, text in enumerate(secrets or [self.secret]))
        return Source(name=self.name, ways=(Way(**self.keys, secrets=held, public_url=self.public_url),))


def _ours(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {_SAID[key]: value for key, value in config.items()}
    found["verify"] = found["verify"].removeprefix("preset:")
    if "tolerance_ms" in found:
        found["tolerance_ms"] *= 1000
    if "timestamp" in found:
        where = "header" if "timestamp_header" in config else "field"
        found["timestamp"] = f"{where}:{found['timestamp']}"
    return found


def _read(one: Mapping[str, Any]) -> Published:
    url, _, query = one.get("url", "").partition("?")
    headers = {name: (value,) for name, value in one["headers"].items()}
    return Published(
        name=one["name"],
        secret=one["secret"],
        keys=_ours(one["config"]),
        incoming=Incoming(headers=headers, body=one["body"].encode(), query=query),
        now=one.get("now", 0) * 1000,
        public_url=url,
    )


PUBLISHED = [
    _read(one) for one in json.loads((Path(__file__).parent / "data" / "vectors.json").read_text("utf-8"))
]

PRESETS = {
    "github": "github",
    "atlassian-bitbucket": "bitbucket",
    "slack": "slack",
    "standard-webhooks-v1": "standard-webhooks",
    "standard-webhooks-v1-rotation": "standard-webhooks",
    "standard-webhooks-v1a": "standard-webhooks",
    "circleci-1": "circleci",
    "circleci-2": "circleci",
    "circleci-3": "circleci",
    "pagerduty": "pagerduty",
    "stripe": "stripe",
    "square": "square",
    "discord": "discord",
    "sendgrid": "sendgrid",
    "sanity-1": "sanity",
    "sanity-2": "sanity",
    "twilio-form-1": "twilio",
    "twilio-form-2": "twilio",
    "twilio-json": "twilio",
}
"""Whose signature each of them is."""


def by_preset(one: Published) -> Source:
    """Return the source that the shipped preset makes of the published secret."""
    problems: list[Problem] = []
    name = PRESETS[one.name]
    layer, _ = read(BUILT_IN / "sources" / f"{name}.toml", f"{name}.toml", problems)
    assert layer, problems
    file = Document([layer], problems).fit(PresetFile)
    assert file, problems
    return Source(name=name, ways=ways_with(file, [Secret(one.secret, "env:0")], one.public_url))
