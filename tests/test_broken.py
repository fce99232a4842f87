"""What is wrong with the operator's files: all of it, where it stands, and no secret with it."""

import os
import shutil
import subprocess
import sys
import tomllib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rulesfiles import (
    ENVIRON,
    EVERY_KNOB,
    PROVIDERS,
    ROOT,
    SMALL,
    problems,
    with_provider,
    with_source,
    write,
)

from relay.errors import ConfigError
from relay.load import load

BROKEN = Path(__file__).parent / "data" / "broken"
BROKEN_ENVIRON = {
    "HOOK_TOKEN": "hook-token-of-a-good-length",
    "API_TOKEN": "api-token",
    "EMPTY": "",
    "SHORT": "fifteen-bytes..",
    **{f"HOOK_{number}": f"hook-token-number-{number}" for number in (2, 3, 4)},
    "BYTES_15": b64encode(bytes(15)).decode(),
    "BYTES_31": b64encode(bytes(31)).decode(),
    "ZEROS": b64encode(bytes(32)).decode(),
    "IN_BASE64": "a-token-of-a-good/length",
    "HOOK_TOKEN_AGAIN": "hook-token-of-a-good-length",
}


def told(text: str) -> Iterator[str]:
    """Yield the lines that a broken file says about itself: ``#: LINE: KEY: WHAT``."""
    return (line.removeprefix("#: ") for line in text.splitlines() if line.startswith("#: "))


FILES = [file for file in sorted(BROKEN.rglob("*.toml")) if file.parent.name not in {"providers", "sources"}]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(BROKEN)))
def test_a_broken_file_says_all_that_is_wrong(file: Path) -> None:
    """Every problem of every file is told at once: file, line, key, what was found, and the way out."""
    files = [file, *(sorted(file.parent.glob("*/*.toml")) if file.name == "rules.toml" else [])]

    found = [str(problem) for problem in problems(file, BROKEN_ENVIRON)]

    expected = [f"{one}:{line}" for one in files for line in told(one.read_text("utf-8", errors="replace"))]
    assert sorted(expected) == sorted(found)
    assert expected


def test_there_are_many() -> None:
    """Whatever can be said in rules can be said wrongly: no theme is left out."""
    themes = {file.parent.name for file in FILES} - {"broken", "beside", "lists"}
    assert 150 <= len(FILES)
    assert themes == {
        *("toml", "keys", "types", "names", "ends", "windows", "patterns", "templates", "tests"),
        *("secrets", "watches", "ways"),
    }


@pytest.mark.parametrize("file", FILES[:: len(FILES) // 10], ids=lambda file: str(file.relative_to(BROKEN)))
def test_the_command_refuses_it(file: Path) -> None:
    """`relay check` says the same, line by line, and ends with 2; nothing else is written."""
    done = subprocess.run(
        [sys.executable, "-m", "relay", "check", str(file)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **BROKEN_ENVIRON},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    said = [str(problem) for problem in problems(file, BROKEN_ENVIRON)]
    assert (2, "", said) == (done.returncode, done.stdout, done.stderr.splitlines())


def test_problems_stand_in_the_order_of_the_lines() -> None:
    """A person mends a file from top to bottom."""
    lines = [problem.line or 0 for problem in problems(BROKEN / "near_misses.toml", BROKEN_ENVIRON)]

    assert sorted(lines) == lines


def test_no_file_no_folder_and_no_text_are_told(tmp_path: Path) -> None:
    """What can't be read is a problem like others, not a traceback."""
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5_000 + "]" * 5_000)
    (tmp_path / "dots.toml").write_text(".".join("a" * 5_000) + " = 1")

    said = [str(problems(tmp_path / name)[0]) for name in ("none.toml", "", "deep.toml", "dots.toml")]

    way = " (--rules or RELAY_RULES says where it is)"
    assert [
        f"{tmp_path / 'none.toml'}: can't be read: No such file or directory{way}",
        f"{tmp_path}: can't be read: Is a directory",
        f"{tmp_path / 'deep.toml'}: nested too deeply",
        f"{tmp_path / 'dots.toml'}: nested deeper than 64 levels",
    ] == said


@pytest.mark.parametrize(
    ("line", "hint", "text"),
    [
        (2, "the key stands twice, or [rule] where each is [[rule]]", "[rule]\n[[rule]]"),
        (2, "the table stands twice, or [rule] where each is [[rule]]", "[rule]\n[rule]"),
        (2, "the key stands twice, or [rule] where each is [[rule]]", "a = 1\na = 1"),
        (1, 'text stands in quotes: "…"', "a = b"),
        (1, "a quote is missing on this line", 'a = "b\nb = 1'),
        (1, "a quote is missing, here or further up", 'a = "b'),
        (1, "a quote is missing, here or further up", "a = 'b"),
        (3, "a quote is missing, here or further up", 'a = """b\n\n'),
        (1, "a quote or bracket too few, or too many?", "a = 'it's'"),
        (1, r"write \\ for \, or the text in single quotes", r'a = "C:\path"'),
        (2, "a comma or ] is missing", "a = [1\n2]"),
        (1, "", "a b = 1"),
        (1, "TOML has no null: leave it out, or, in a pattern, { is-null = true }", "a = null"),
        (1, "it is true or false, in small letters", "a = True"),
        (1, "a value is missing", "a ="),
        (1, "a number does not begin with 0", "a = 07"),
        (1, 'key = "value", with an equals sign', "a: b"),
        (1, "it ends in ]]", "[[a]"),
        (1, "what stands in braces stands on one line, without a comma at its end", "a = {\nb = 1 }"),
    ],
)
def test_a_slip_of_toml_has_a_hint(tmp_path: Path, line: int, hint: str, text: str) -> None:
    """What people get wrong about TOML is told with the way out."""
    (tmp_path / "rules.toml").write_text(text)

    (problem,) = problems(tmp_path / "rules.toml")

    assert problem.what.startswith("not TOML: ")
    assert (line, hint) == (problem.line, problem.hint)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Editors that begin a file with one are forgiven, and the lines are counted right."""
    mark = b"\xef\xbb\xbf"
    path = write(tmp_path, SMALL)
    path.write_bytes(mark + path.read_bytes())
    assert 1 == len(load(path, ENVIRON).rules)

    path.write_bytes(mark + b"a = 1\nb = '\xe9'")
    (problem,) = problems(path)
    assert (2, "not UTF-8: the byte 0xe9 can't stand here") == (problem.line, problem.what)


CANARY = "canary-7Qx9-canary"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    written=st.one_of(
        st.just(CANARY),
        st.sampled_from(["env:", "env: ", "file:", "ENV:", "Bearer ", "$", "'", '"']).map(
            lambda start: f"{start} {CANARY}"
        ),
        st.just([CANARY]),
        st.just({"value": CANARY}),
        st.just({CANARY: 1}).map(lambda table: [*table]),
    ),
    place=st.sampled_from(["source", "provider", "tokn", "base_url"]),
)
def test_a_secret_is_never_echoed(tmp_path: Path, written: Any, place: str) -> None:
    """Whatever stands where a secret belongs is repeated in no message, and in no exception behind it."""
    document = {
        "source": with_source(preset="flatfile", secrets=written),
        "provider": with_provider(token=written),
        "tokn": with_provider(tokn=written),
        "base_url": with_provider(base_url=f"https://{CANARY}:{CANARY}@api.example"),
    }[place]

    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, document), ENVIRON)

    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in f"{error!s}{error!r}"
        error = error.__cause__ or error.__context__


def test_a_broken_line_is_not_echoed(tmp_path: Path) -> None:
    """A secret in a file that is no TOML is not repeated either."""
    for text in (
        f'token = "{CANARY}',
        f"token = {CANARY}",
        f"[provider.x]\n{CANARY}",
        f'"{CANARY}" = 1\n' * 2,
    ):
        (tmp_path / "rules.toml").write_text(text)
        assert CANARY not in str(ConfigError(problems(tmp_path / "rules.toml")))


ODD = st.one_of(
    st.none(),
    st.sampled_from(
        [0, -1, 1.5, True, "", "x", "{", "{x}", [], [[]], {}, [{}], {"x": {}}, [1, "x"], "env:A"]
    ),
)


def spots(data: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """List the places in *data*."""
    steps: list[str | int] = []
    steps += data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    return [(*here, s) for s in steps] + [one for s in steps for one in spots(data[s], (*here, s))]


def changed(data: Any, spot: tuple[str | int, ...], odd: Any) -> Any:
    """Return *data* with *odd* at *spot*; None: without what is there."""
    if not spot:
        return odd
    items = dict(data) if isinstance(data, dict) else dict(enumerate(data))
    items[spot[0]] = changed(items[spot[0]], spot[1:], odd)
    kept = {key: value for key, value in items.items() if value is not None}
    return kept if isinstance(data, dict) else [*kept.values()]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_mistake_is_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands where it does not belong, in rules or provider, it is loaded or told."""
    rules = [tomllib.loads((ROOT / "rules.toml").read_text()), EVERY_KNOB]
    files = (ROOT / "relay" / "providers" / f"{name}.toml" for name in PROVIDERS)
    documents = [*rules, *(tomllib.loads(file.read_text()) for file in files)]
    number = data.draw(st.integers(0, len(documents) - 1))
    document = documents[number]
    document = changed(document, data.draw(st.sampled_from(spots(document))), data.draw(ODD))
    if number < len(rules):
        path = write(tmp_path, document)
    else:
        write(tmp_path, document | {"title": "Other"}, "providers/other.toml")
        path = write(tmp_path, SMALL)

    try:
        load(path, ENVIRON, secrets=False)
    except ConfigError as error:
        told_of = {problem.file for problem in error.problems}
        assert told_of <= {str(path), str(tmp_path / "providers" / "other.toml")}
    finally:
        shutil.rmtree(tmp_path / "providers", ignore_errors=True)
