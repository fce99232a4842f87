"""When do the old rules stay?  Broken files, half-written ones, and bugs."""

from collections.abc import Callable
from typing import Any

import pytest
from reloads import ENVIRON, Desk, desk, renamed

from relay.load import load
from relay.reload import AGAIN_MS, read, stamps

__all__ = ["desk"]


BREAKS: dict[str, Callable[[str], str]] = {
    "half of it": lambda text: text[: len(text) // 2],
    "nothing": lambda _: "",
    "a key nobody knows": lambda text: text.replace("when.topic", "wenn.topic"),
    "an action that is not there": lambda text: text.replace("flatfile.retry", "flatfile.retri"),
    "no TOML": lambda text: text + "= =",
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_file_leaves_the_old_in_force(desk: Desk, name: str) -> None:
    """Once and loudly, with the place of each problem; the next good one is taken."""
    old, text = desk.in_force.rules, desk.rules.read_text()
    desk.write(BREAKS[name](text))
    desk.look(6)

    (line,) = desk.said("rules.broken")
    assert old is desk.in_force.rules
    assert ("error", old.version, len(desk.in_force.broken)) == (
        line["log_level"], line["in_force"], line["count"],
    )  # fmt: skip
    assert line["problems"]
    assert all(problem.startswith(str(desk.rules)) for problem in line["problems"])
    desk.write(text.replace("retry jobs", "mended"))
    desk.look()
    assert (["mended"], ()) == (desk.names, desk.in_force.broken)


def test_each_way_to_be_broken_is_told_once(desk: Desk) -> None:
    """Another problem is another line; what is asked for is answered each time."""
    text = desk.rules.read_text()
    for spoil in BREAKS.values():
        desk.write(spoil(text))
        desk.look(4)
        desk.now += AGAIN_MS
        desk.look()
    desk.sighup()
    desk.sighup()

    assert len(BREAKS) + 2 == len(desk.said("rules.broken"))


def test_the_way_back_is_told(desk: Desk) -> None:
    """What was broken and is again as it was is no longer broken, and says so."""
    text = desk.rules.read_text()
    desk.write("= =")
    desk.look()
    desk.write(text)
    desk.look()

    (line,) = desk.said("rules.loaded")
    assert (line["before"], ()) == (line["rule_version"], desk.in_force.broken)


@pytest.mark.parametrize("name", ["rules.toml", "providers/flatfile.toml"])
def test_a_file_that_is_cut_to_nothing_is_not_believed(desk: Desk, name: str) -> None:
    """It would load, and lose every rule or lead calls elsewhere; a comment alone says that it is meant."""
    desk.write('base_url = "https://eu.example.com"\n', "providers/flatfile.toml")
    desk.start()
    old = desk.in_force.rules
    desk.write("", name)
    desk.sighup()
    assert old is desk.in_force.rules
    assert ["is empty now"] == [problem.what for problem in desk.in_force.broken]
    desk.write("# nothing\n", name)
    desk.sighup()

    assert old is not desk.in_force.rules
    assert () == desk.in_force.broken


def test_half_a_file_is_never_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows line by line is right in itself now and then; it is read when it grows no more."""
    lines = renamed(desk, "whole").splitlines(keepends=True)
    desk.write("".join(lines[: lines.index("[[rule]]\n")]))
    assert read(desk.rules, ENVIRON).rules, "half of it would be taken"
    desk.write("")
    real, old = stamps, desk.in_force.rules

    def growing(*args: Any) -> Any:
        if lines:
            desk.write(desk.rules.read_text() + lines.pop(0))
        return real(*args)

    monkeypatch.setattr("relay.reload.stamps", growing)
    while lines:
        desk.look(1)
        assert old is desk.in_force.rules
    desk.look()

    assert ["whole"] == desk.names
    assert ["rules.loaded"] == [line["event"] for line in desk.lines]


def test_sighup_waits_for_a_file_that_is_being_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line comes each time that relay waits; none of the halves is read."""
    lines = renamed(desk, "whole").splitlines(keepends=True)
    desk.write("")

    async def passing(_: float) -> None:
        if lines:
            desk.write(desk.rules.read_text() + lines.pop(0))

    monkeypatch.setattr("relay.reload.asyncio.sleep", passing)
    desk.sighup()

    assert ["whole"] == desk.names
    assert ["rules.loaded"] == [line["event"] for line in desk.lines]


def test_what_a_broken_file_lacks_is_looked_for(desk: Desk) -> None:
    """A folder for uploads or a secret may come without any file being written: it is checked again."""
    late = desk.folder / "late"
    desk.write(desk.rules.read_text().replace(str(desk.secret), str(late)))
    desk.look()
    late.write_text("another-token-of-a-good-length")
    desk.look(4)
    assert desk.in_force.broken
    desk.now += AGAIN_MS
    desk.look(1)

    assert () == desk.in_force.broken
    assert (1, 1) == (len(desk.said("rules.broken")), len(desk.said("rules.loaded")))


def test_files_that_change_while_they_are_read_are_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken is of one moment, never a file from before beside one from after."""
    real, text = load, desk.rules.read_text()
    versions = ["three", "four", "five", "six"]

    def changing(*args: Any) -> Any:
        found = real(*args)
        if versions:
            desk.write(text.replace("retry jobs", versions.pop(0)))
        return found

    monkeypatch.setattr("relay.reload.load", changing)
    desk.write(text.replace("retry jobs", "two"))
    torn = read(desk.rules, ENVIRON)
    whole = read(desk.rules, ENVIRON)

    assert {} == torn.stamps
    assert whole.rules is not None
    assert (["six"], stamps(desk.rules, [desk.secret])) == (
        [rule.name for rule in whole.rules.rules], whole.stamps,
    )  # fmt: skip


def test_a_bug_leaves_the_old_in_force(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no check foresaw is a problem like any other, with a traceback."""
    old = desk.in_force.rules
    monkeypatch.setattr("relay.reload.load", lambda *_: 1 / 0)
    desk.write(renamed(desk, "x"))
    desk.look()

    assert old is desk.in_force.rules
    assert ["a bug in relay"] == [problem.hint for problem in desk.in_force.broken]
    assert 1 == len(desk.said("reload.failed"))
