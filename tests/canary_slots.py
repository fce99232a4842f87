"""Which places hold secrets, and how does each get one of its own?"""

from dataclasses import dataclass, field

import tomli_w
from canaries import ANSWERS, ODD, canary
from process import ROOT
from story import Story

from relay.load import load

PARROTS = (*ANSWERS, "tls", "unreachable", "signed")
"""Providers that answer badly, or not at all; each has a token of its own."""

ODD_ONES = frozenset({"docflow path token", "ops token", "xpkg token", "token of broken", "token of done"})
"""Slots whose canary has letters that need an escape somewhere."""

SLOTS: tuple[str, ...] = (
    # what senders share with us
    *("github new secret", "github old secret", "writer secret", "flatfile token", "ops token"),
    *("docflow path token", "xpkg hook token", "ann password", "gitlab token", "a webhook key"),
    # what opens the admin's routes, and our credentials at providers
    *("the admin token", "writer key", "flatfile key", "docflow app id", "docflow secret code"),
    *("xpkg token", *(f"token of {name}" for name in PARROTS)),
    # what senders show that is not right, or not asked for
    *("a wrong bearer", "a wrong signature", "a wrong path token", "a stranger path token", "a cookie"),
    *("an api key", "a proxy password", "a query token", "a wrong password", "a wrong admin token"),
    *("an admin query token", "a gitlab token for another"),
    # what stands in bodies and is cut
    *("an access token", "a deep access token", "an access token in no JSON", "a member to redact"),
    # what stands in files where no secret belongs
    *("a literal secret", "a literal token", "a password in a base_url", "a token behind env:"),
    *("a token behind file:", "a key nobody knows", "a line that is no TOML", "a broken variable"),
    *("a password in --db", "a short secret"),
    # what is uploaded
    "a file contents",
)  # fmt: skip

RULES = """
[source.github]
preset  = "github"
secrets = ["env:GITHUB_NEW", "env:GITHUB_OLD"]

[source.ann]
verify  = "basic"
secrets = "env:ANN"
redact  = ["password"]

[source.gitlab]
preset  = "gitlab"
secrets = "env:GITLAB"

[source.standard]
preset  = "standard-webhooks"
secrets = "env:STANDARD"

[source.ops]
verify  = "token"
header  = "x-ops-key"
secrets = "file:OPS_FILE"
type    = "body:to"
delivery = "header:x-id"

[[rule]]
name = "held files"
from = "writer"
when.type = "file.held"
call = "writer.retry"
with.file_id = "{file_id}"
approve = true
"""

PARROT = {
    "title": "Parrot",
    "allow_http": True,
    "allow_networks": ["127.0.0.1/32"],
    "timeouts": {"connect": 1, "read": 1, "total": 2},
    "auth": {"header": "Authorization", "value": "Key {secret.token}"},
    "action": {
        "again": {
            "title": "Again",
            "request": "POST /again/{to}",
            "values": {"to": {}},
            "on_unknown": "person",
        }
    },
}

SIGNED = {
    "auth": "signature",
    "auths": {
        "signature": {
            "headers": {"X-Signature": "{signature}", "X-Time": "{timestamp}"},
            "sign": {"key": "{secret.token}", "derive": ["{timestamp}"], "text": "{method}\n{path}"},
        }
    },
}


@dataclass(kw_only=True)
class Run:
    """What was planted, and what was said where."""

    planted: dict[str, str] = field(default_factory=dict)
    places: dict[str, bytes] = field(default_factory=dict)
    events: frozenset[str] = frozenset()  #: names of lines in the log
    why: frozenset[str] = frozenset()  #: why deliveries were refused
    heard: frozenset[str] = frozenset()  #: by parrots
    statuses: frozenset[int | None] = frozenset()  #: of answers to calls

    def of(self, slot: str, count: int = 32) -> str:
        """Return the canary of a slot that is planted now."""
        assert slot in SLOTS, slot
        return self.planted.setdefault(
            slot, canary(slot, ODD, count) if slot in ODD_ONES else canary(slot, count=count)
        )

    def keep(self, place: str, said: str | bytes) -> None:
        """Keep what was said at a place."""
        self.places[place] = self.places.get(place, b"") + (said.encode() if isinstance(said, str) else said)


def set_up(on: Story, run: Run, port: int, tls_port: int) -> None:
    """Put a canary into each slot of the rules, the variables, the files and the simulators."""
    of, folder = run.of, on.folder
    on.writer.key, on.flatfile.key, on.xpkg.token = (
        of("writer key"),
        of("flatfile key"),
        of("xpkg token"),
    )
    on.docflow.app_id, on.docflow.secret_code = of("docflow app id"), of("docflow secret code")
    secret = folder / "ops.secret"
    secret.write_text(of("ops token") + "\n")
    on.environ |= {
        "GITHUB_NEW": of("github new secret"),
        "GITHUB_OLD": of("github old secret"),
        "ANN": f"ann:{of('ann password')}",
        "GITLAB": of("gitlab token"),
        "STANDARD": f"whsec_{of('a webhook key')}",
        "WRITER_HOOK_SECRET": of("writer secret"),
        "FLATFILE_HOOK_TOKEN": of("flatfile token"),
        "DOCFLOW_HOOK_TOKEN": of("docflow path token"),
        "XPKG_HOOK_TOKEN": of("xpkg hook token"),
        "WRITER_API_KEY": on.writer.key,
        "FLATFILE_API_KEY": on.flatfile.key,
        "DOCFLOW_APP_ID": on.docflow.app_id,
        "DOCFLOW_SECRET_CODE": on.docflow.secret_code,
        "XPKG_TOKEN": on.xpkg.token,
        "RELAY_ADMIN_TOKEN": of("the admin token"),
    }
    rules = (ROOT / "rules.toml").read_text() + RULES.replace("OPS_FILE", str(secret))
    for name in PARROTS:
        variable = name.upper().replace("-", "_")
        on.environ[variable] = of(f"token of {name}")
        place = {"tls": f"https://localhost:{tls_port}", "unreachable": "http://127.0.0.1:1"}
        file = PARROT | (SIGNED if name == "signed" else {})
        file["base_url"] = place.get(name, f"http://127.0.0.1:{port}")
        (folder / "providers" / f"{name}.toml").write_text(tomli_w.dumps(file))
        rules += f"""
[provider.{name}]
token = "env:{variable}"

[[rule]]
name = "{name}"
from = "ops"
when.to = "{name}"
case = "{{to}}"
call = "{name}.again"
with.to = "{{to}}"
"""
    (folder / "rules.toml").write_text(rules)
    on.rules = load(folder / "rules.toml", on.environ)
