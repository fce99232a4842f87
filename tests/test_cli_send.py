"""Can each source be tried from the shell?  Every sample of every preset, signed, posted and kept."""

import base64
import json
import secrets
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from process import Relay
from shell import read, relay

from relay import mint
from relay.clock import now_ms
from relay.load import BUILT_IN, preset
from relay.mint import Private
from relay.schema import PresetFile
from relay.sign import KEYED
from relay.source import Way

PRESETS = {
    file.stem: tomllib.loads(file.read_text()) for file in sorted((BUILT_IN / "sources").glob("*.toml"))
}
"""Each preset's own words."""

GIVEN: dict[str, dict[str, Any]] = {
    "pubsub": {
        "audience": "https://relay.example/hooks/pubsub",
        "claims": {"email": "relay@project.example"},
    },
    "sns": {"topics": ["arn:aws:sns:eu-central-1:123456789012:alarms"]},
    "square": {"public_url": "https://relay.example/hooks/square"},
    "twilio": {"public_url": "https://relay.example/hooks/twilio"},
}
"""What no preset can know."""


def pem(key: Private) -> bytes:
    """Write a private key as its file has it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A relay with a source for each preset, and its shell's variables."""

    folder: Path
    relay: Relay

    def environ(self, name: str = "github") -> dict[str, str]:
        """Return what a shell knows that has the rules of one source."""
        return {"RELAY_RULES": str(self.folder / f"{name}.toml"), "RELAY_TO": self.relay.url}

    def key(self, name: str) -> list[str]:
        """Return the option for a source that holds a public key."""
        return ["--key", str(self.folder / f"{name}.pem")] if PRESETS[name]["verify"] in KEYED else []

    def send(self, name: str, *more: str) -> Any:
        """Send something, and read what was answered."""
        return read("send", name, *self.key(name), *more, **self.environ(name))


def secret(of: dict[str, Any], folder: Path, name: str) -> str:
    """Make a secret as the preset's first way spells it; for a public key also its private one."""
    spelt = {key: of[key] for key in ("key_encoding", "strip_key_prefix") if key in of}
    way = Way(verify=of["verify"], **spelt)
    if way.verify in KEYED:
        key = mint.fresh(way.verify)
        (folder / f"{name}.pem").write_bytes(key)
        return mint.public(way, key)
    raw = secrets.token_bytes(32)
    text = base64.b64encode(raw).decode() if way.key_encoding == "base64" else raw.hex()
    return ("relay:" if way.verify == "basic" else way.strip_key_prefix) + text


def configured(name: str, of: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the source of a preset, with its secret in a file."""
    told = {"preset": name, **GIVEN.get(name, {})}
    made = secret(of, folder, name)
    if of["verify"] in {"jwt", "sns"}:
        key = (folder / f"{name}.pem").read_bytes()
        held = mint.jwks(key) if of["verify"] == "jwt" else mint.certificate(key, now_ms())
        (folder / f"{name}.public").write_bytes(held)
        return {**told, "keys": f"file:{folder / name}.public"}
    (folder / f"{name}.secret").write_text(made)
    return {**told, "secrets": [f"file:{folder / name}.secret"]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Run a relay with all presets."""
    folder = tmp_path_factory.mktemp("shop")
    sources = {name: configured(name, of, folder) for name, of in PRESETS.items()}
    sources["open"] = {"verify": "none", "i_know_this_is_unauthenticated": True, "delivery": "body:id"}
    for name, told in sources.items():
        (folder / f"{name}.toml").write_text(tomli_w.dumps({"source": {name: told}}))
    (folder / "rules.toml").write_text(tomli_w.dumps({"source": sources}))
    server = Relay(folder, {}, "--port", "0", "--grace", "1")
    try:
        assert server.url
        yield Shop(folder=folder, relay=server)
        assert 0 == server.end(), server.text
        assert "Traceback" not in server.text
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.ended()


@pytest.mark.parametrize("name", PRESETS)
def test_every_sample_of_every_preset_is_taken(shop: Shop, name: str) -> None:
    """Signed as its provider signs, and never a duplicate; a handshake is answered."""
    samples = PresetFile.model_validate(PRESETS[name]).sample
    assert samples
    for times, sample in zip(chain([2], repeat(1)), samples, strict=False):
        for _ in range(times):
            told = shop.send(name, "--sample", sample.name)
            assert sample.name == told.pop("sample")
            if sample.handshake is not None:
                assert {"status": 200, "handshake": sample.handshake} == told
                continue
            assert PRESETS[name].get("answer", 202) == told["status"]
            if told["status"] != 204:
                assert told["duplicate"] is False
                assert len(sample.event) == len(told.get("events", [told["event"]]))


def test_the_first_sample_without_a_name(shop: Shop) -> None:
    """It is made for people: one line that says what came of it; with --exact it is a duplicate at last."""
    first = PRESETS["github"]["sample"][0]["name"]
    result = relay("send", "github", **shop.environ())

    assert 0 == result.exit_code, result.stderr
    assert result.stdout.startswith("202: event ev_")
    assert result.stdout.endswith(f"(sample '{first}')\n")
    once, again = (shop.send("github", "--exact") for _ in range(2))
    assert (False, True, once["event"]) == (once["duplicate"], again["duplicate"], again["event"])


def test_a_body_of_ones_own(shop: Shop) -> None:
    """It goes as it is, with headers that are given, or a sample's; the same twice is a duplicate."""
    own = json.dumps({"action": "nothing"})
    headers = ("--header", "X-GitHub-Event=ping", "--header", "X-GitHub-Delivery=one")
    first, second = (read_in("github", own, *headers, shop=shop) for _ in range(2))
    borrowed = [
        read_in("github", own, "--sample", PRESETS["github"]["sample"][0]["name"], shop=shop) for _ in "ab"
    ]

    assert (202, 200, first["event"]) == (first["status"], second["status"], second["event"])
    # The very same bytes were there before, whatever id they come with.
    assert [first["event"]] * 2 == [one["event"] for one in borrowed]
    assert 202 == read_in("open", '{"id": "1"}', shop=shop)["status"]


def read_in(name: str, body: str, *more: str, shop: Shop) -> Any:
    """Send a body from standard input."""
    result = relay("send", name, "-", "--json", *more, stdin=body, **shop.environ(name))
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def test_samples_are_listed(shop: Shop) -> None:
    """All of them, with what they tell, for people and for programs; no secret and no relay is needed."""
    rules = shop.folder / "listed.toml"
    rules.write_text('[source.discord]\npreset = "discord"\nsecrets = "env:NOT_SET"\n')
    listed = read("send", "discord", "--list", RELAY_RULES=str(rules))["items"]
    found = preset(rules, "discord")

    assert found is not None
    assert [one.name for one in found.samples] == [one["name"] for one in listed]
    shown = relay("send", "discord", "--list", RELAY_RULES=str(rules)).stdout
    assert all(one.name in shown for one in found.samples)
    assert "a handshake" in shown
    bare = relay("send", "open", "--list", **shop.environ("open")).stdout
    assert "The source open has no preset with samples: relay send open EVENT.json\n" == bare


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["githb"], "did you mean 'github'?"),
        (["github", "--sample", "nosuch"], "there is no sample 'nosuch'"),
        (["open"], "the source open has no preset with samples: say EVENT.json"),
        (["github", "--header", "novalue"], "expected NAME=VALUE, got 'novalue'"),
        (["github", "--header", "host=evil"], "expected NAME=VALUE"),
        (["github", "--key", "x.pem"], "takes no --key"),
        (["discord"], "--key FILE (made, if it is not there)"),
        (["github", "nosuch.json"], "no such file"),
    ],
)
def test_what_can_not_be_sent(shop: Shop, args: list[str], why: str) -> None:
    """Code 2, and the way out; nothing is posted."""
    rules = args[0] if (shop.folder / f"{args[0]}.toml").exists() else "github"
    result = relay("send", *args, **shop.environ(rules))

    assert (2, "") == (result.exit_code, result.stdout)
    assert why in result.stderr
    assert not Path("x.pem").exists()


def test_a_wrong_secret_is_told_by_hand(shop: Shop, tmp_path: Path) -> None:
    """401 tells nobody which of several it was, so that the shell says what to look at."""
    (tmp_path / "wrong").write_text("a wrong secret, long enough")
    rules = tmp_path / "rules.toml"
    rules.write_text(f'[source.github]\npreset = "github"\nsecrets = ["file:{tmp_path / "wrong"}"]\n')
    result = relay("send", "github", **{**shop.environ(), "RELAY_RULES": str(rules)})

    assert (1, "") == (result.exit_code, result.stdout)
    assert "401: Not accepted" in result.stderr
    assert "[source.github]" in result.stderr


KEYS = [name for name, of in PRESETS.items() if of["verify"] in KEYED]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_ones_own(shop: Shop, name: str, tmp_path: Path) -> None:
    """Made for its user alone; what is printed, put into the rules, makes the rest work."""
    file, rules = tmp_path / "try.pem", tmp_path / "rules.toml"
    given = "".join(tomli_w.dumps({"source": {name: {"preset": name, **GIVEN.get(name, {})}}}))
    known = PRESETS[name]["verify"] in {"jwt", "sns"}
    first = PRESETS[name].get("keys", "https://keys.example/jwks" if known else "")
    own = (
        {"keys": first}
        if PRESETS[name]["verify"] == "jwt"
        else {}
        if known
        else {"secrets": "env:PUBLIC_KEY"}
    )
    rules.write_text(tomli_w.dumps({"source": {name: {**tomllib.loads(given)["source"][name], **own}}}))
    environ = {**shop.environ(), "RELAY_RULES": str(rules)}

    made = relay("send", name, "--key", str(file), **environ)
    assert (1, f"{file}: a new private key\n") == (made.exit_code, made.stdout)
    # Who has forgotten it asks again, and is told again: as long as nobody knows the key.
    twice = relay("send", name, "--key", str(file), **environ)
    assert (1, "") == (twice.exit_code, twice.stdout)
    assert twice.stderr.endswith(made.stderr)
    assert ("PUBLIC_KEY is not set" in twice.stderr) is not known
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    step = made.stderr.split("\n    ")[1:][-1].partition("\n")[0]
    if known:
        assert step.startswith(f'keys = "file:{file}.')
        changed = {**tomllib.loads(rules.read_text())["source"][name], **tomllib.loads(step)}
        rules.write_text(tomli_w.dumps({"source": {name: changed}}))
    else:
        environ["PUBLIC_KEY"] = step.removeprefix("export PUBLIC_KEY=")
    server = Relay(tmp_path, environ, "--port", "0", "--grace", "1")
    try:
        environ["RELAY_TO"] = server.url
        told = relay("send", name, "--key", str(file), **environ)
        assert 0 == told.exit_code, told.stderr
        # Another key is introduced, too, and nothing is posted with it.
        other = relay("send", name, "--key", str(tmp_path / "other.pem"), **environ)
        again = relay("send", name, "--key", str(tmp_path / "other.pem"), **environ)
        assert (1, 1) == (other.exit_code, again.exit_code)
        assert other.stderr == again.stderr
        assert [] == server.said("hook.refused")
        assert 0 == server.end()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.ended()


def test_a_file_that_is_no_key(shop: Shop, tmp_path: Path) -> None:
    """One line, and nothing is overwritten; a folder that is not there is said."""
    (tmp_path / "x.pem").write_text("hello")
    told = relay("send", KEYS[0], "--key", str(tmp_path / "x.pem"), **shop.environ(KEYS[0]))
    nowhere = relay("send", KEYS[0], "--key", str(tmp_path / "no" / "x.pem"), **shop.environ(KEYS[0]))

    assert (1, "hello") == (told.exit_code, (tmp_path / "x.pem").read_text())
    assert "no private key in PEM" in told.stderr
    assert told.stderr.endswith("; take another file\n")
    assert (2, True) == (nowhere.exit_code, "can't be written" in nowhere.stderr)


KINDS = {
    "RSA": mint.fresh("jwt"),
    "Ed25519": mint.fresh("ed25519"),
    "ECDSA P-256": mint.fresh("ecdsa-p256"),
    "RSA of 1024 bits": pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    "ECDSA secp384r1": pem(ec.generate_private_key(ec.SECP384R1())),
}
FITS = {"ed25519": {"Ed25519"}, "ecdsa-p256": {"ECDSA P-256"}, "jwt": {"RSA", "ECDSA P-256"}, "sns": {"RSA"}}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_another_kind(name: str, tmp_path: Path) -> None:
    """It says which it is and which it must be, whether a public one is set or not, and writes nothing."""
    kind = PRESETS[name]["verify"]
    own = {"keys": "https://keys.example/jwks"} if kind == "jwt" else {}
    own |= {} if kind in {"jwt", "sns"} else {"secrets": "env:PUBLIC_KEY"}
    rules = tmp_path / "rules.toml"
    rules.write_text(tomli_w.dumps({"source": {name: {"preset": name, **GIVEN.get(name, {}), **own}}}))
    for said, key in KINDS.items():
        file = tmp_path / f"{said}.pem"
        file.write_bytes(key)
        told = relay("send", name, "--key", str(file), RELAY_RULES=str(rules))
        assert (1, "") == (told.exit_code, told.stdout)
        if said in FITS[kind]:
            assert "take another file" not in told.stderr
            continue
        wants = " or ".join(sorted(FITS[kind], reverse=True))
        assert (
            f"relay: {file}: the key is {said}, and {name} signs with {wants}; take another file\n"
            == told.stderr
        )
        assert not list(tmp_path.glob(f"{said}.pem.*"))
