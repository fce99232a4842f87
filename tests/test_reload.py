"""When do changed files take their place, and what follows them?  Look by look, without a clock."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from reloads import ENVIRON, WATCH, Desk, desk, renamed

from relay.load import BUILT_IN
from relay.log import scrub
from relay.reload import read, stamps
from relay.store import Store

__all__ = ["desk"]

# -- when files are read --


def test_nothing_is_read_that_did_not_change(desk: Desk) -> None:
    """Looks alone do nothing and say nothing."""
    old = desk.in_force.rules
    desk.look(5)

    assert [] == desk.lines == desk.asked
    assert old is desk.in_force.rules


def test_changed_rules_take_their_place(desk: Desk) -> None:
    """All that the line says is so: who came, who went, which version was before."""
    before = desk.in_force.rules.version
    desk.write(renamed(desk, "retry them"))
    desk.now += 5
    desk.look()

    (line,) = desk.said("rules.loaded")
    assert ["retry them"] == desk.names
    assert (before, desk.in_force.rules.version) == (line["before"], line["rule_version"])
    assert (["retry them"], ["retry jobs"], []) == (
        line["rules_added"], line["rules_removed"], line["rules_changed"],
    )  # fmt: skip
    assert ([str(desk.rules)], "the files changed") == (line["files_changed"], line["why"])
    assert (1, 1, 1, 0) == tuple(line[key] for key in ("rules", "sources", "providers", "watches"))
    assert (desk.now, (), 1) == (desk.in_force.loaded_at, desk.in_force.broken, desk.woken)


def test_a_file_is_read_once_it_rests(desk: Desk) -> None:
    """What differs at each look is still being written; the second look that sees the same reads it."""
    text = desk.rules.read_text()
    for name in ("a", "ab", "abc"):
        desk.write(text.replace("retry jobs", name))
        desk.look(1)
        assert ["retry jobs"] == desk.names
    desk.look(1)

    assert ["abc"] == desk.names
    assert 1 == len(desk.said("rules.loaded"))


def test_a_rule_that_is_written_otherwise_is_told(desk: Desk) -> None:
    """Its table counts, not its tests and not where it stands."""
    desk.write(renamed(desk, "retry jobs").replace("job:failed", "job:died"))
    desk.look()
    test = '[[rule.test]]\nevent = { topic = "x" }\ncalls = 0\n'
    desk.write("# moved\n" + desk.rules.read_text() + test)
    desk.look()

    assert [["retry jobs"], []] == [line["rules_changed"] for line in desk.said("rules.loaded")]


def test_a_touched_file_is_no_news(desk: Desk) -> None:
    """Another time, the same words: nothing is said, nobody is woken."""
    desk.rules.touch()
    desk.look(4)

    assert ([], 0) == (desk.lines, desk.woken)


def swap(desk: Desk) -> None:
    """Change files as Kubernetes does: `rules.toml` leads through a link that is replaced."""
    shutil.move(desk.rules, desk.folder / "one" / "rules.toml")
    (desk.folder / "data").symlink_to("one")
    desk.rules.symlink_to("data/rules.toml")
    desk.start()
    desk.write(renamed(desk, "swapped"), "two/rules.toml")
    os.utime(desk.folder / "two/rules.toml", (1_000, 1_000))
    (desk.folder / "next").symlink_to("two")
    (desk.folder / "next").replace(desk.folder / "data")


def test_a_link_that_leads_elsewhere_is_a_change(desk: Desk) -> None:
    """Though its target was written long ago."""
    (desk.folder / "one").mkdir()
    swap(desk)
    desk.look()

    assert ["swapped"] == desk.names


def test_what_is_replaced_by_its_like_is_a_change(desk: Desk) -> None:
    """Of the same size and time, but another file."""
    other = desk.folder / "other"
    other.write_text(renamed(desk, "retry JOBS"))
    os.utime(other, (1_000, 1_000))
    other.replace(desk.rules)
    desk.look()

    assert ["retry JOBS"] == desk.names


def test_files_that_come_and_go_are_a_change(desk: Desk) -> None:
    """A provider's file beside the rules is laid over the built-in one, for as long as it is there."""
    desk.write('base_url = "https://eu.example.com"\n', "providers/flatfile.toml")
    desk.look()
    over = desk.in_force.rules.providers["flatfile"].base_url
    (desk.folder / "providers/flatfile.toml").unlink()
    desk.look()

    assert "https://eu.example.com" == over != desk.in_force.rules.providers["flatfile"].base_url
    file = [str(desk.folder / "providers/flatfile.toml")]
    came, went = desk.said("rules.loaded")
    assert (file, file) == (came["files_added"], went["files_removed"])


def test_all_that_load_reads_is_looked_at(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what comes with relay, which does not change while it runs."""
    desk.write('base_url = "https://eu.example.com"\n', "providers/flatfile.toml")
    desk.write('dedupe = "1m"\n', "sources/flatfile.toml")
    opened: set[Path] = set()
    real = Path.read_bytes

    def spy(path: Path) -> bytes:
        opened.add(path)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    read(desk.rules, ENVIRON)
    own = {str(path) for path in opened if not path.is_relative_to(BUILT_IN)}

    assert own == set(stamps(desk.rules))


# -- what is asked for --


def test_sighup_reads_at_once_and_says_so(desk: Desk) -> None:
    """Without waiting for the file to rest, and also if nothing has changed."""
    desk.write(renamed(desk, "now"))
    desk.sighup()
    desk.sighup()

    assert ["now"] == desk.names
    one, two = desk.said("rules.loaded")
    assert "SIGHUP" == one["why"] == two["why"]
    assert one["rule_version"] == two["before"] == two["rule_version"]
    assert [] == two["rules_changed"] == two["files_changed"] == two["secrets_changed"]


def test_what_was_written_right_before_is_looked_at_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second write within the file system's tick looks like the first: so the first is not trusted."""
    monkeypatch.setattr("relay.reload.BLUR_NS", 10**18)
    text = desk.rules.read_text()
    desk.write(text.replace("retry jobs", "one"))
    seen = stamps(desk.rules, [desk.secret])
    monkeypatch.setattr("relay.reload.stamps", lambda *_: seen)
    desk.sighup()
    desk.write(text.replace("retry jobs", "two"))
    desk.look()

    assert ["two"] == desk.names


# -- secrets, watches, providers --


def test_a_secrets_file_is_looked_at_too(desk: Desk) -> None:
    """A new secret is in force, and cut out of every line, though the rules are the same."""
    desk.secret.write_text("a-new-token-of-a-good-length")
    desk.look()

    (line,) = desk.said("rules.loaded")
    assert ["source.flatfile"] == line["secrets_changed"]
    assert line["before"] == line["rule_version"]
    (held,) = desk.in_force.rules.sources["flatfile"].secrets()
    assert "a-new-token-of-a-good-length" == held.reveal()
    assert "***" == scrub.text(held.reveal())


def test_a_new_key_lets_a_paused_provider_be_asked(desk: Desk) -> None:
    """As a restart does; where no key has changed, the pause stands."""
    key = desk.folder / "key"
    key.write_text("sk_of_a_file")
    desk.write(desk.rules.read_text().replace("env:FLATFILE_API_KEY", f"file:{key}"))
    desk.look()
    desk.asked.clear()
    desk.sighup()
    assert ["arm"] == desk.asked
    key.write_text("sk_of_a_new_file")
    desk.sighup()

    assert ["arm", "arm", "resume"] == desk.asked


def test_watches_are_armed_anew_and_orphans_told(desk: Desk) -> None:
    """A watch that comes has a run, one that goes has none; calls nobody makes any more are told."""
    text = desk.rules.read_text()
    desk.write(text + WATCH)
    desk.look()
    assert ["failed tasks"] == [row["name"] for row in asyncio.run(desk.keeper(Store.watches))]
    desk.write(text)
    desk.look()

    assert [] == asyncio.run(desk.keeper(Store.watches))
    assert ["arm", "arm", "counts"] == desk.asked


def test_a_full_disk_delays_the_watches_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are in force at once; what the store has to know is written when it can be."""
    monkeypatch.setattr("relay.reload.LOOK_S", 0)
    desk.busy = 2
    desk.write(desk.rules.read_text() + WATCH)
    desk.look()

    assert (2, 1) == (len(desk.said("store.busy")), desk.woken)
    assert {"failed tasks"} == set(desk.in_force.rules.watches)
