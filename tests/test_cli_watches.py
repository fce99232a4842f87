"""What does the shell show of watches?"""

import re
from pathlib import Path

import pytest
from rulesfiles import ENVIRON
from shell import read
from shell import relay as shell

from relay.cli.cases import span
from relay.clock import now_ms
from relay.engine import SQLite

WATCHED = """
[provider.writer]
token = "env:WRITER_API_KEY"
[[watch]]
name = "failed files"
call = "writer.failed_files"
every = "1m"
[[rule]]
name = "retry"
from = "writer"
when.type = "file.failed"
call = "writer.retry"
with.file_id = "{file_id}"
"""


@pytest.fixture
def rules(tmp_path: Path) -> dict[str, str]:
    """Return the variables of a shell whose rules have a watch."""
    (tmp_path / "rules.toml").write_text(WATCHED)
    return {
        **ENVIRON,
        "RELAY_RULES": str(tmp_path / "rules.toml"),
        "RELAY_DB": f"sqlite:///{tmp_path / 'relay.db'}",
    }


def test_watches_before_anything_ran(rules: dict[str, str]) -> None:
    """What the rules ask for can be seen at once; that nothing has run is said beside it."""
    told = read("watches", **rules)
    result = shell("watches", **rules)

    assert [("failed files", "new", "1m")] == [(w["name"], w["state"], w["every"]) for w in told["items"]]
    assert "there is no database yet" in result.stderr
    assert re.search(r"^failed files +new +0s +0 +0 +0 +0$", result.stdout, re.MULTILINE), result.stdout


def test_watches_and_what_they_saw(rules: dict[str, str], tmp_path: Path) -> None:
    """When it ran, how far it lags behind, what it saw, what is wrong; and those that the rules have left."""
    engine, now = SQLite(tmp_path / "relay.db"), now_ms()
    with engine.group():
        for name, failures, ago in (("failed files", 2, 400_000), ("gone", 0, 30_000)):
            row = {"name": name, "provider": "writer", "listing": "failed_files"}
            engine.link().rows("arm_watch", row | {"armed_at": now - 900_000})
            engine.link().rows("keep_watch", {
                "name": name, "run_at": None, "run_items": 0, "run_fresh": 0, "ran_at": now - ago,
                "took_ms": 1_500, "items": 7, "fresh": 3, "failures": failures,
                "why": "500" if failures else "",
            })  # fmt: skip
    engine.close()
    told = {watch["name"]: watch for watch in read("watches", **rules)["items"]}
    text = shell("watches", **rules).stdout

    assert ("failing", 2, "500", 7, 3) == tuple(
        told["failed files"][name] for name in ("state", "failures", "why", "items", "fresh")
    )
    assert ("gone", None) == (told["gone"]["state"], told["gone"]["every"])
    assert 400_000 <= told["failed files"]["lag_ms"] <= 400_000 + 60_000
    assert re.search(r"^failed files +failing +.* [67]m +7 +3 +0 +2 +500$", text, re.MULTILINE), text


@pytest.mark.parametrize(
    ("millis", "said"), [(0, "0s"), (1_234, "1.23s"), (119_000, "119s"), (120_000, "2m"), (7_200_000, "2h"),
    (172_800_000, "2d"), (-5, "0s")],
)  # fmt: skip
def test_how_long_something_takes(millis: int, said: str) -> None:
    """In the unit that says enough."""
    assert said == span(millis)
