"""Do GitHub's own methods for Node and relay agree on which deliveries are right?"""

import json
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from deliveries import MESSAGES, Kind, Pair, altered, by_relay, one, plain, relays, text_pair, with_
from npm import OCTOKIT

from relay.source import Incoming

GITHUB = Kind(preset="github", pair=text_pair, proof="x-hub-signature-256")
NOW = int(time.time())


def octokit(asked: Iterable[tuple[Pair, Incoming]]) -> list[dict[str, Any]]:
    """Ask Octokit about all deliveries, in one process: what it would sign, and if it was signed rightly."""
    lines = (
        {"secret": pair.shown, "body": incoming.body.decode(), "shown": one(incoming, GITHUB.proof)}
        for pair, incoming in asked
    )
    done = subprocess.run(
        ["node", Path(__file__).with_name("oracle.mjs")],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_text(incoming: Incoming) -> bool:
    """Say whether Octokit can be asked: it takes text, and some of it."""
    try:
        return bool(incoming.body.decode())
    except UnicodeDecodeError:
        return False


@OCTOKIT
def test_octokit_and_relay_agree() -> None:
    """Each takes what the other signs, and neither takes what was altered or signed with another secret."""
    luck = Random("octokit and relay")
    rights: list[tuple[Pair, Incoming]] = []
    wrongs: list[tuple[Pair, Incoming]] = []
    while len(rights) < MESSAGES:
        pair, incoming = text_pair(luck), plain(luck)
        right = by_relay(GITHUB, pair, incoming, NOW)
        rights.append((pair, right))
        wrongs += [(pair, altered(luck, GITHUB, right)), (text_pair(luck), right)]
    wrongs = [(pair, wrong) for pair, wrong in wrongs if wrong.headers.get(GITHUB.proof) and is_text(wrong)]
    assert MESSAGES < len(wrongs)

    told, refused = octokit(rights), octokit(wrongs)
    theirs = [
        (pair, with_(was, **{GITHUB.proof: one_["signed"]}))
        for (pair, was), one_ in zip(rights, told, strict=True)
    ]

    assert [True] * MESSAGES == [one_["right"] for one_ in told]
    assert [True] * MESSAGES == [relays(GITHUB, pair, incoming) for pair, incoming in theirs]
    assert not [one_ for one_ in refused if one_["right"] is True]
    assert not [pair for pair, incoming in wrongs if relays(GITHUB, pair, incoming)]
