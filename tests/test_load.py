"""From the operator's files to a ruleset."""

import re
import shutil
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from rulesfiles import ENVIRON, PROVIDERS, ROOT, SMALL, problems, with_provider, with_source, write

from relay.load import load
from relay.provider import Limit, Timeouts
from relay.reach import Reach
from relay.rule import Ruleset


def ours(tmp_path: Path) -> Ruleset:
    """Load the rules.toml of this repository with all secrets and with its upload folder."""
    (tmp_path / "packages").mkdir(exist_ok=True)
    shutil.copy(ROOT / "rules.toml", tmp_path)
    return load(tmp_path / "rules.toml", ENVIRON)


def test_our_rules_load(tmp_path: Path) -> None:
    """The repository's rules.toml holds together, for all four providers."""
    rules = ours(tmp_path)

    assert PROVIDERS == tuple(sorted(rules.providers))
    assert PROVIDERS == tuple(sorted(rules.sources))
    assert PROVIDERS == tuple(sorted(aim.provider for rule in rules.rules for aim in rule.aims))
    assert tmp_path / "packages" == rules.providers["xpkg"].files
    assert {*ENVIRON.values()} == {secret.reveal() for secret in rules.secrets()}


def test_our_rules_do_as_their_tests_say(tmp_path: Path) -> None:
    """Each [[rule.test]] of the repository's rules.toml comes out, and each rule has a hit and a miss."""
    for rule in ours(tmp_path).rules:
        assert {0, 1} == {test.wants["calls"] for test in rule.tests}
        for test in rule.tests:
            assert bool(test.wants["calls"]) is rule.when.meets(test.event), (rule.name, test.event)


def test_our_rules_load_without_secrets() -> None:
    """`relay check` and `relay match` need no variables and no upload folder, and get no known secrets."""
    first, second = (load(ROOT / "rules.toml", {}, secrets=False) for _ in range(2))

    assert first.version == second.version
    assert not {s.reveal() for s in first.secrets()} & {s.reveal() for s in second.secrets()}


def test_without_secrets_they_are_still_not_to_be_written_down(tmp_path: Path) -> None:
    """Form is checked even where values are not looked at."""
    path = write(tmp_path, with_provider(token="a-secret-written-down"))

    assert ["a secret is never written in the file"] == [p.what for p in problems(path, {}, secrets=False)]


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    """file:/path is read without the line end that editors add."""
    (tmp_path / "token").write_text("a token from a file\n")

    rules = load(write(tmp_path, with_provider(token=f"file:{tmp_path / 'token'}")), ENVIRON)

    assert "a token from a file" == rules.providers["flatfile"].secrets["token"].reveal()


def test_a_secret_of_two_lines_is_refused(tmp_path: Path) -> None:
    """A line end within a secret would break the header it goes into."""
    path = write(tmp_path, SMALL)

    (problem,) = problems(path, ENVIRON | {"FLATFILE_API_KEY": "one\ntwo"})

    assert "FLATFILE_API_KEY holds a control character" == problem.what


@pytest.mark.parametrize(
    ("keys", "header", "prefix", "place"),
    [
        ({"verify": "token"}, "authorization", "Bearer ", "header"),
        ({"verify": "token", "header": "Authorization"}, "authorization", "Bearer ", "header"),
        ({"verify": "token", "header": "X-Token"}, "x-token", "", "header"),
        ({"verify": "token", "prefix": ""}, "authorization", "", "header"),
        ({"verify": "token", "header": "x-token", "prefix": "t "}, "x-token", "t ", "header"),
        ({"verify": "token", "in": "path"}, "authorization", "", "path"),
        ({"verify": "hmac", "header": "X-Sig"}, "x-sig", "", "header"),
        ({"preset": "writer"}, "x-signature-256", "sha256=", "header"),
        ({"preset": "writer", "header": "x-mine"}, "x-mine", "sha256=", "header"),
        ({"preset": "writer", "verify": "token"}, "authorization", "Bearer ", "header"),
    ],
)
def test_how_a_sender_proves_itself(
    tmp_path: Path, keys: dict[str, Any], header: str, prefix: str, place: str
) -> None:
    """Only Authorization has 'Bearer ' by itself, and another verify leaves the preset's proof behind."""
    document = with_source(secrets=["env:WRITER_HOOK_SECRET"], **keys)

    (way,) = load(write(tmp_path, document), ENVIRON).sources["extra"].ways

    assert (header, prefix, place) == (way.header, way.prefix, way.place)


def test_no_verify_must_be_said_out_loud(tmp_path: Path) -> None:
    """With i_know_this_is_unauthenticated, anyone may post."""
    document = with_source(verify="none", i_know_this_is_unauthenticated=True)

    found = load(write(tmp_path, document), ENVIRON).sources["extra"]
    assert (True, ()) == (found.open, found.ways)


def test_a_provider_in_no_use_needs_no_secrets(tmp_path: Path) -> None:
    """Of the providers we know, only those configured or called are loaded."""
    assert ["flatfile"] == list(load(write(tmp_path, SMALL), ENVIRON).providers)


def test_a_called_provider_needs_its_secrets(tmp_path: Path) -> None:
    """A rule may not call a provider that can't say who is calling."""
    (problem,) = problems(write(tmp_path, SMALL | {"provider": {}}))

    assert 'the provider flatfile needs token (for example token = "env:FLATFILE_TOKEN")' in str(problem)


def test_settings_change_only_what_they_name(tmp_path: Path) -> None:
    """[provider.NAME] is laid over the provider's file, key by key."""
    document = with_provider(
        base_url="http://127.0.0.1:8000",
        allow_http=True,
        allow_networks=["127.0.0.0/8"],
        limit={"burst": 3},
        timeouts={"read": 1},
        tries=2,
    )

    provider = load(write(tmp_path, document), ENVIRON).providers["flatfile"]

    assert "http://127.0.0.1:8000" == provider.base_url
    assert Reach(networks=(ip_network("127.0.0.0/8"),)) == provider.reach
    assert Limit(every_ms=100, burst=3, concurrency=4) == provider.limit
    assert Timeouts(connect=5, write=10, read=1, total=60) == provider.timeouts
    assert 2 == provider.tries


def test_an_auth_may_be_chosen(tmp_path: Path) -> None:
    """DocFlow signs requests if [provider.docflow] says so."""
    keys = {"app_id": "env:DOCFLOW_APP_ID", "secret_code": "env:DOCFLOW_SECRET_CODE"}
    for auth, signed in ((None, False), ("secret", False), ("signature", True)):
        own = keys | ({"auth": auth} if auth else {})
        document = SMALL | {"provider": SMALL["provider"] | {"docflow": own}}
        provider = load(write(tmp_path, document), ENVIRON).providers["docflow"]
        assert signed is (provider.auth.sign is not None)
        assert signed is ("x-ti-signature" in provider.auth.headers)


def test_a_file_beside_overrides_fields(tmp_path: Path) -> None:
    """providers/NAME.toml beside the rules changes fields of the built-in file, and leaves the rest."""
    write(
        tmp_path,
        {"tries": 3, "limit": {"burst": 1}, "action": {"retry": {"title": "Ours"}}},
        "providers/flatfile.toml",
    )
    write(tmp_path, {"dedupe": "2s"}, "sources/flatfile.toml")

    rules = load(write(tmp_path, SMALL), ENVIRON)

    provider = rules.providers["flatfile"]
    assert (3, Limit(every_ms=100, burst=1, concurrency=4)) == (provider.tries, provider.limit)
    assert "Ours" == provider.actions["retry"].title
    assert "/v1/jobs/{job_id}/retry" == provider.actions["retry"].shape.path
    assert 2_000 == rules.sources["flatfile"].dedupe_ms
    assert ("_accessToken",) == rules.sources["flatfile"].redact


def test_a_file_beside_adds_a_provider(tmp_path: Path) -> None:
    """A provider that relay does not bring is one file."""
    own = {
        "title": "Own",
        "base_url": "https://own.example",
        "auth": {"header": "x-key", "value": "{secret.key}"},
        "action": {"again": {"title": "Again", "request": "PUT /again", "idempotent": True}},
    }
    write(tmp_path, own, "providers/own.toml")
    rule = {"name": "again", "from": "flatfile", "when": {"a": 1}, "call": "own.again"}
    document = SMALL | {
        "provider": SMALL["provider"] | {"own": {"key": "env:WRITER_API_KEY"}},
        "rule": [rule],
    }

    provider = load(write(tmp_path, document), ENVIRON).providers["own"]

    assert "resend" == provider.actions["again"].on_unknown
    assert {"x-key": "{secret.key}"} == provider.auth.headers


def test_a_broken_file_beside_is_told_even_if_nobody_uses_it(tmp_path: Path) -> None:
    """The operator's own files are checked, used or not."""
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "idle.toml").write_text('title = "Idle')
    write(tmp_path, {"header": 1}, "sources/idle.toml")

    said = [str(problem).removeprefix(f"{tmp_path}/") for problem in problems(write(tmp_path, SMALL))]

    assert 2 == len(said)
    assert said[0].startswith("providers/idle.toml:1: not TOML: ") or said[1].startswith(
        "providers/idle.toml:1:"
    )
    assert "sources/idle.toml:1: header: expected text, got 1" in said


def test_a_signed_request_is_never_multipart(tmp_path: Path) -> None:
    """A signature covers the body's bytes, and an upload's are never in memory."""
    own = {
        "title": "Own",
        "base_url": "https://own.example",
        "auth": "signed",
        "auths": {
            "signed": {"headers": {"x-s": "{signature}"}, "sign": {"key": "{secret.key}", "text": "{path}"}}
        },
        "action": {"put": {"title": "Put", "request": "POST /put", "multipart": {"a": "b"}}},
    }
    write(tmp_path, own, "providers/own.toml")

    (problem,) = problems(write(tmp_path, SMALL))

    assert "action.put.multipart" == problem.key


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    """Twelve hex digits stand for the bytes of all files read, and not for where they stand."""
    seen = [load(write(tmp_path, SMALL), ENVIRON).version]
    write(tmp_path, {"dedupe": "2s"}, "sources/flatfile.toml")
    seen.append(load(tmp_path / "rules.toml", ENVIRON).version)
    seen.append(load(write(tmp_path, with_provider(tries=2)), ENVIRON).version)

    assert 3 == len(set(seen))
    assert all(re.fullmatch("[0-9a-f]{12}", version) for version in seen)
    (tmp_path / "moved").mkdir()
    assert seen[0] == load(write(tmp_path / "moved", SMALL), ENVIRON).version
