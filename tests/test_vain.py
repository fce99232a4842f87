"""Is a rule taken that can be met, and told that can't be?  The broken files show how the latter is said."""

from pathlib import Path
from typing import Any

import pytest
from rulesfiles import ENVIRON, problems, write

from relay.load import load

ENV = {**ENVIRON, "PIPE_TOKEN": "a-token-of-its-own-length", "GITLAB": "a-token-of-gitlab-alone"}
SOURCES = {
    "writer": {"preset": "writer", "secrets": "env:WRITER_HOOK_SECRET"},
    "pipe": {"verify": "token", "header": "x-token", "secrets": "env:PIPE_TOKEN"},
    "open": {"verify": "none", "i_know_this_is_unauthenticated": True},
}
WATCH = {"name": "look", "call": "writer.failed_files", "every": "1m", "source": "pipe"}


def rules(by: list[str], when: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return rules that tell of what meets *when*."""
    one = {"name": "see", "from": by, "when": when, "tell": "log", "say": "!"}
    return {
        "source": SOURCES,
        "provider": {"writer": {"token": "env:WRITER_API_KEY"}},
        "rule": [one | more],
    }


@pytest.mark.parametrize(
    ("by", "when"),
    [
        (["writer"], {"$verified": "verified", "$failed": True}),
        (["writer"], {"$verified": {"anything-but": "authenticated"}, "$recovered": [True, False]}),
        (["pipe"], {"$verified": ["verified", "authenticated"], "$failed": False}),
        (["pipe"], {"$verified": {"exists": True}, "$source": {"prefix": "p"}}),
        (["open"], {"$verified": "unattempted"}),
        (["pipe", "writer"], {"$verified": "verified", "$resource": {"exists": True}}),
        (
            ["pipe", "writer"],
            {"any-of": [{"$source": "pipe", "a": 1}, {"$source": "writer", "$failed": True}]},
        ),
        (["pipe"], {"a.$failed": True, "$type": "x", "$headers.x-y": "z"}),
        (["pipe"], {"$source": {"field": ["=", "a.from"]}, "$id": {"prefix": "ev_"}}),
    ],
)
def test_what_one_source_may_say_is_fine(tmp_path: Path, by: list[str], when: dict[str, Any]) -> None:
    """One of several sources is enough, and whatever stands in a body may come."""
    assert 1 == len(load(write(tmp_path, rules(by, when)), ENV).rules)


def test_one_source_that_has_a_resource_is_enough(tmp_path: Path) -> None:
    """And where there is a default, none is needed."""
    said = {"say": "{$resource} failed"}
    assert load(write(tmp_path, rules(["pipe", "writer"], {"a": 1}, **said)), ENV)
    assert problems(write(tmp_path, rules(["pipe", "open"], {"a": 1}, **said)), ENV)
    assert load(write(tmp_path, rules(["pipe"], {"a": 1}, say='{$resource|"all"} failed')), ENV)


def test_what_a_watch_finds_is_verified(tmp_path: Path) -> None:
    """We asked the provider ourselves, also where others post to the same source by a token."""
    found = rules(["pipe"], {"$verified": "verified"})
    assert problems(write(tmp_path, found), ENV)
    assert load(write(tmp_path, found | {"watch": [WATCH]}), ENV)
    own = WATCH | {"source": "writer"}
    told = rules(["writer"], {"$verified": "verified", "$failed": True})
    del told["source"]
    assert load(write(tmp_path, told | {"watch": [own]}), ENV)


def test_the_secret_that_is_there_counts(tmp_path: Path) -> None:
    """A preset with two ways is as good as the one whose secret it has."""
    gitlab = {"preset": "gitlab", "secrets": "env:GITLAB"}
    found = rules(["gitlab"], {"$verified": "verified"}) | {"source": {"gitlab": gitlab}}
    (problem,) = problems(write(tmp_path, found), ENV)
    assert 'rule[1].when."$verified"' == problem.key
    assert load(
        write(tmp_path, found), ENV | {"GITLAB": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
    )


def test_of_a_broken_source_nothing_more_is_told(tmp_path: Path) -> None:
    """What it would say is not known; nor is a source that is not there."""
    path = write(tmp_path, rules(["pipe", "pip"], {"$verified": "verified", "$failed": True}))
    assert ["there is no source 'pip'"] == [one.what for one in problems(path, ENV)]
    without = {name: value for name, value in ENV.items() if name != "PIPE_TOKEN"}
    path = write(tmp_path, rules(["pipe"], {"$verified": "verified"}))
    assert ["source.pipe.secrets"] == [one.key for one in problems(path, without)]
    odd = SOURCES | {"pipe": {"verify": "odd"}}
    fed = rules(["pipe"], {"$verified": "authenticated"}) | {"source": odd, "watch": [WATCH]}
    assert ["source.pipe.verify"] == [one.key for one in problems(write(tmp_path, fed), ENV)]
