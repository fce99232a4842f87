"""How is a secret put into every slot there is, and what does relay say when all goes wrong?"""

import sqlite3
from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import SIGHUP
from typing import Any, Final
from zipfile import ZipFile

import orjson
from build import incoming
from canaries import parrot
from canary_slots import PARROTS, Run, set_up
from process import DB, Relay, until
from shell import relay as shell
from story import Story, failed_file, hook, story
from wires import Trust

from relay.call import State
from relay.clock import now_ms
from relay.demo.sim import Fault
from relay.sign import sign

# -- what senders do --


def _say(
    on: Story, run: Run, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None
) -> int:
    """Send a request, keep all of the answer, and return its status."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = on.client.request(method, on.relay.url + path, content=raw, headers=headers)
    run.keep(
        "answers",
        f"{path[:12]} {answer.status_code} {answer.headers.raw!r}\n".encode() + answer.content + b"\n",
    )
    return answer.status_code


def _post(
    on: Story,
    run: Run,
    source: str,
    body: Any,
    headers: Mapping[str, str] | None = None,
    *,
    query: str = "",
    secret: int = 0,
) -> None:
    """Sign a delivery as its source would, with the first of its secrets or another one, and post it."""
    found = on.rules.sources[source]
    ways = tuple(replace(way, secrets=way.secrets[secret:]) for way in found.ways)
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    shown = sign(replace(found, ways=ways), incoming(raw, headers), now_ms())
    named = {name: values[0] for name, values in shown.headers.items()}
    assert 202 == _say(on, run, "POST", hook(source, shown.token) + query, raw, named), source


def _right_ones(on: Story, run: Run) -> None:
    """Post what is taken, with credentials wherever a sender may put them."""
    of = run.of
    key, coded = of("writer key"), b64encode(f"x {of('writer key')}".encode()).decode()
    told = failed_file(on)[1] | {
        "note": f"401 for Bearer {key}",
        "more": [{key: coded}],
        "hex": key.encode().hex(),
    }
    extra = {
        "Cookie": f"session={of('a cookie')}",
        "X-Api-Key": of("an api key"),
        "Proxy-Authorization": f"Basic {of('a proxy password')}",
        "User-Agent": f"Bot/1.0 ({key})",
    }
    _post(on, run, "writer", told, extra, query=f"?token={of('a query token')}")
    _post(on, run, "writer", failed_file(on)[1] | {"type": "file.held"})
    on.flatfile.add("us_jb_1")
    note = {"topic": "job:failed", "context": {"jobId": "us_jb_1"}, "payload": {"isPart": False}}
    _post(on, run, "flatfile", note | {"_accessToken": of("an access token")})
    _post(on, run, "flatfile", {"topic": "x", "a": [{"_accessToken": {"b": of("a deep access token")}}]})
    _post(
        on,
        run,
        "flatfile",
        b'{"topic": oops, "_accessToken": "' + of("an access token in no JSON").encode() + b'"',
    )
    on.docflow.add("1978297791713619968")
    _post(on, run, "docflow", {"task_id": "1978297791713619968", "status": "failed"})
    package = on.pack("example.package1", "1.3b9")
    with ZipFile(on.folder / "packages" / "example.package1-1.3b9.zip", "a") as zipped:
        zipped.writestr("example.package1/key.txt", of("a file contents"))
    _post(on, run, "xpkg", package)
    _post(on, run, "ann", {"n": 1, "password": of("a member to redact")})
    _post(on, run, "gitlab", {"object_kind": "pipeline", "object_attributes": {"id": 7, "status": "failed"}})
    _post(on, run, "standard", {"type": "x"}, {"webhook-id": "msg_1"})
    _post(on, run, "github", {"zen": 1}, {"x-github-event": "ping", "x-github-delivery": "1"})
    _post(on, run, "github", {"zen": 2}, {"x-github-event": "ping", "x-github-delivery": "2"}, secret=1)
    for name in PARROTS:
        _post(on, run, "ops", {"to": name}, {"x-id": f"{name} {of('token of ' + name)}"})


def _wrong_ones(on: Story, run: Run) -> None:
    """Post what is refused, with credentials that relay does not know, and with some of its own astray."""
    of = run.of
    shown: list[tuple[str, dict[str, str]]] = [
        ("/hooks/github", {"x-hub-signature-256": f"sha256={of('a wrong signature')}"}),
        ("/hooks/flatfile", {"authorization": f"Bearer {of('a wrong bearer')}"}),
        (hook("docflow", of("a wrong path token")), {}),
        (hook("nobody", of("a stranger path token")), {}),
        (hook(of("docflow path token")), {}),  # who forgets the source's name shows the token in its place
        (hook("gitlab"), {"x-gitlab-token": of("a gitlab token for another")}),
        (
            hook("ann"),
            {"authorization": f"Basic {b64encode(('ann:' + of('a wrong password')).encode()).decode()}"},
        ),
        (hook("ann"), {"authorization": f"Basic {of('ann password')}"}),
        (hook("standard"), {"webhook-id": "1", "webhook-signature": f"v1,{of('a webhook key')}"}),
    ]
    for path, headers in shown:
        assert 401 == _say(on, run, "POST", path, b"{}", headers), path


def _admins(on: Story, run: Run) -> None:
    """Ask as the admin, and as somebody who is none; paste secrets into whatever takes text."""
    of = run.of
    mine = {"Authorization": f"Bearer {of('the admin token')}", "Content-Type": "application/json"}
    case = on.cases()[0].id
    assert 401 == _say(
        on, run, "GET", "/api/v1/cases", headers={"Authorization": f"Bearer {of('a wrong admin token')}"}
    )
    assert 400 == _say(on, run, "GET", f"/api/v1/cases?token={of('an admin query token')}", headers=mine)
    assert 404 == _say(on, run, "GET", f"/{of('the admin token')}")
    wish = {"by": f"ann {of('writer key')}", "why": f"with {of('the admin token')}", "for": "1h"}
    _say(on, run, "POST", f"/api/v1/cases/{case}/snooze", wish, mine)
    for path in ("/api/v1/cases?limit=100", f"/api/v1/cases/{case}", "/readyz", "/livez", "/nowhere"):
        _say(on, run, "GET", path, headers=mine)
    for row in on.events():
        assert 200 == _say(on, run, "GET", f"/api/v1/explain?event={row['id']}", headers=mine)
    for one in on.cases():
        assert 200 == _say(on, run, "GET", f"/api/v1/cases/{one.id}", headers=mine)


# -- what the operator does --

BROKEN: Mapping[str, str] = {
    "a literal secret": '[source.a]\nverify = "token"\nsecrets = ["{}"]\n',
    "a literal token": '[provider.writer]\ntoken = "{}"\n',
    "a password in a base_url": '[provider.writer]\nbase_url = "https://ann:{}@api.example"\n',
    "a token behind env:": '[provider.writer]\ntoken = "env:{}-x"\n',
    "a token behind file:": '[provider.writer]\ntoken = "file:{}"\n',
    "a key nobody knows": '[provider.writer]\ntokken = "{}"\npassword = "{}"\n',
    "a line that is no TOML": '[provider.writer]\ntoken = "{}\n',
}
"""Rules with a secret where none belongs, or that can't be read."""


def _told(on: Story, times: int) -> bool:
    return len(on.relay.said("rules.broken")) >= times


def _breaks(on: Story, run: Run) -> None:
    """Break the rules in each way while relay runs, ask what it says, and mend them."""
    rules = on.folder / "rules.toml"
    right = rules.read_text()
    for number, (slot, text) in enumerate(BROKEN.items(), 1):
        rules.write_text(text.replace("{}", run.of(slot)))
        on.relay.kick(SIGHUP)
        until(partial(_told, on, number), slot)
        _say(on, run, "GET", "/readyz")
        _shell(on, run, "check", str(rules))
    rules.write_text(right)
    on.relay.kick(SIGHUP)


def _shell(on: Story, run: Run, *args: str, **environ: str) -> None:
    """Run a command beside the relay, and keep what it prints."""
    beside = {
        "RELAY_DB": f"sqlite:///{on.db}",
        "RELAY_RULES": str(on.folder / "rules.toml"),
        "RELAY_TO": on.relay.url,
    }
    said = shell(*args, **on.environ | beside | environ)
    assert not isinstance(said.exception, Exception) or isinstance(said.exception, SystemExit), said.exception
    run.keep(f"relay {args[0]}", said.stdout + said.stderr)


def _shells(on: Story, run: Run) -> None:
    """Run every command that tells something, as people and programs read it."""
    event, case = on.events()[0]["id"], on.cases()[0].id
    (on.folder / "event.json").write_text(
        '{"type": "file.failed", "file_id": "1862f090-a281-48f3-8838-26c1e78b605e"}'
    )
    every: list[tuple[str, ...]] = [
        ("events",),
        ("calls",),
        ("cases",),
        ("providers",),
        ("watches",),
        ("windows",),
        ("check",),
    ]
    every += [("events", row["id"]) for row in on.events()] + [("calls", one.id) for one in on.calls()]
    every += [("case", one.id) for one in on.cases()]
    every += [("match", "writer", str(on.folder / "event.json")), ("match", event), ("replay",)]
    every += [("send", "flatfile", str(on.folder / "event.json"))]
    for args in every:
        _shell(on, run, *args)
        _shell(on, run, *args, "--json")
    _shell(on, run, "approve", case, "--why", run.of("flatfile key"))
    _shell(on, run, "events", "--db", f"postgresql://ann:{run.of('a password in --db')}@db.example/relay")


def _starts(on: Story, run: Run) -> None:
    """Try to start relay with variables that are no secrets."""
    odd = {
        "a broken variable": ("WRITER_API_KEY", run.of("a broken variable") + "\nX-Injected: 1"),
        "a short secret": ("WRITER_HOOK_SECRET", run.of("a short secret", 15)),
    }
    for slot, (variable, value) in odd.items():
        relay = Relay(on.folder, on.environ | {variable: value}, "--port", "0", "--db", "sqlite:///other.db")
        assert 2 == relay.ended(), slot
        run.keep("a start that is refused", relay.text)
        _shell(on, run, "check", **{variable: value})


# -- all of it --


TURNS: Final = frozenset(
    {"rules.loaded", "provider.paused", "case.recovered", "case.gave_up", "case.needs_person"}
)
"""What is said of the run's own turns before it ends, however slow the machine is."""


def _tried(on: Story) -> bool:
    """Say whether each call was tried at least once, and none is out."""
    calls = [call for call in on.calls() if call.state is not State.HELD]
    return all(call.attempts and call.state is not State.RUNNING for call in calls)


def play(folder: Path) -> Run:
    """Play the whole run, and return what was said where."""
    run, trust = Run(), Trust()
    with parrot() as told, parrot(trust.server("localhost")) as tls, story(folder, heals_after_s=0.2) as on:
        set_up(on, run, told.port, tls.port)
        echo = {"X-Echo": on.writer.key, "Set-Cookie": f"a={on.writer.key}"}
        on.writer.faults.append(Fault(status=500, headers=echo, body=f"Bearer {on.writer.key}"))
        on.flatfile.faults.append(Fault(status=401, headers=echo, body=f"who is Bearer {on.flatfile.key}?"))
        secret = {"msg": on.docflow.secret_code, "code": 500, "app": on.docflow.app_id}
        on.docflow.read_faults.append(Fault(status=200, body=orjson.dumps(secret)))
        on.start("--log-level", "debug")
        _right_ones(on, run)
        _wrong_ones(on, run)
        until(lambda: _tried(on), lambda: [(one.provider, one.state, one.attempts) for one in on.calls()], 60)
        _admins(on, run)
        _breaks(on, run)
        _shells(on, run)
        _starts(on, run)
        until(lambda: on.relay.events() >= TURNS, lambda: TURNS - on.relay.events(), 60)
        with (
            closing(sqlite3.connect(on.db)) as source,
            closing(sqlite3.connect(folder / "backup.db")) as copy,
        ):
            source.backup(copy)
        for file in [*sorted(folder.glob(f"{DB}*")), folder / "backup.db"]:
            run.keep(file.name, file.read_bytes())
        run.statuses = frozenset(one.status for call in on.calls() for one in on.attempts(call))
        assert 0 == on.relay.end()
        run.keep("relay.db at the end", on.db.read_bytes())
        run.keep("the log", on.relay.text)
        run.events = on.relay.events()
        run.why = frozenset(line["why"] for line in on.relay.said("hook.refused"))
        run.heard = frozenset([*told.heard, *tls.heard])
    return run
