"""
Is any secret to be seen anywhere?  One canary in every slot, a run in which all goes wrong, and a search.

The run is a real one: `relay serve` as a process at debug level, real sockets, four simulated providers, and
one that says back what it was called with, in as many ways as it can. Searched are the log, the database
with its write-ahead log, a backup, every answer to a sender and to the admin, and all that the shell prints,
for each half of each canary in plain, base64, hex, percent and JSON. There are no metrics and there is no
chat yet: when they come, they are places, too.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from canaries import ANSWERS, LETTERS, ODD, canary, hits
from canary_run import play
from canary_slots import SLOTS, Run
from shell import relay

from relay.log import MASK, Scrubber
from relay.secret import Secret


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Play the whole run once."""
    return play(tmp_path_factory.mktemp("canary"))


def test_no_canary_is_seen_anywhere(run: Run) -> None:
    """Not one of them, in no place, in no spelling, and no half of one either."""
    assert [] == hits(run.planted, run.places)


def test_every_slot_was_filled(run: Run) -> None:
    """There are more than twenty-five, and the run has put its canary into each."""
    assert 25 <= len(SLOTS)
    assert set(SLOTS) == run.planted.keys()
    assert len(SLOTS) == len(set(run.planted.values()))


def test_the_run_went_as_badly_as_it_should(run: Run) -> None:
    """Every failure came about: wrong secrets, wrong files, and each answer that a provider can think of."""
    assert {"wrong_secret", "malformed_header", "missing_header", "unknown_source"} <= run.why
    assert {"rules.broken", "rules.loaded", "provider.paused", "admin.refused", "relay.stopped"} <= run.events
    assert {"case.recovered", "case.gave_up", "case.needs_person"} <= run.events
    assert {200, 204, 302, 400, 401, 500, None} <= run.statuses
    assert set(ANSWERS) <= run.heard
    assert {name for name in run.heard if name.startswith("SSL")}, "no handshake failed"


def test_every_place_was_searched(run: Run) -> None:
    """The log, the database and its log, a backup, what senders and the admin were told, and the shell."""
    shells = {
        "events",
        "calls",
        "cases",
        "case",
        "providers",
        "watches",
        "windows",
        "check",
        "match",
        "replay",
    }
    places = {"the log", "answers", "relay.db", "relay.db-wal", "relay.db-shm", "backup.db", "relay.db.admin"}
    places |= {"relay.db at the end", "a start that is refused"} | {f"relay {name}" for name in shells}

    assert places <= run.places.keys()
    assert not [place for place, said in run.places.items() if not said]
    # They tell what they should, less the canaries.
    assert b"us_jb_1" in run.places["relay.db"]
    assert MASK.encode() in run.places["relay calls"]
    assert MASK.encode() in run.places["relay.db"]


@pytest.mark.parametrize(
    ("auth", "line"),
    [
        ('auth = { header = "Authorization", value = "Bearer CANARY" }', 3),
        ('auth = "a"\n[auths.a.headers]\nx-key = "CANARY"\nx-id = "7"', 4),
    ],
)
def test_a_credential_in_an_auth_is_refused(tmp_path: Path, auth: str, line: int) -> None:
    """The net could not know it, so an auth has to ask for a secret; what stands there is not said again."""
    token = canary("a literal auth")
    (tmp_path / "providers").mkdir()
    file = tmp_path / "providers" / "ops.toml"
    file.write_text(f'title = "Ops"\nbase_url = "https://ops.example"\n{auth}'.replace("CANARY", token))
    (tmp_path / "rules.toml").write_text("[provider.ops]\n")

    said = relay("check", str(tmp_path / "rules.toml"))

    assert 2 == said.exit_code
    assert f"{file}:{line}: " in said.stderr
    assert "asks for no secret" in said.stderr
    assert [] == hits({"it": token}, {"here": said.output.encode()})


SPELT: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in capitals, hex": lambda value: value.encode().hex().upper(),
    "hex": lambda value: value.encode().hex(),
    "percent": lambda value: quote(value, safe=""),
    "percent, as a path": quote,
    "percent, small": lambda value: re.sub("%..", lambda byte: byte[0].lower(), quote(value, safe="")),
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps(json.dumps({"a": value})),
    "repr": lambda value: repr({"a": value}),
    "base64": lambda value: b64encode(value.encode()).decode(),
    "base64 after one": lambda value: b64encode(f":{value}.".encode()).decode(),
    "base64 after two": lambda value: urlsafe_b64encode(f"a:{value}, b".encode()).decode(),
}


@pytest.mark.parametrize("letters", [LETTERS, ODD], ids=["letters", "odd"])
@pytest.mark.parametrize("spell", SPELT.values(), ids=SPELT)
def test_the_search_finds_what_the_net_cuts(spell: Callable[[str], str], letters: str) -> None:
    """The search finds each spelling, also of one half; of a whole one, relay's own net leaves nothing."""
    value = canary("the search", letters)
    net = Scrubber([Secret(value, "env:TOKEN")])
    whole = f"it said {spell(value)} to me"

    assert hits({"it": value}, {"here": whole.encode()})
    assert hits({"it": value}, {"here": f"x {spell(value[:16])} y".encode()})
    assert hits({"it": value}, {"here": f"x {spell(value[16:])} y".encode()})
    assert [] == hits({"it": value}, {"here": net.text(whole).encode(), "there": net.bytes(whole.encode())})
