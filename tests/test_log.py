"""Does the log say what happened, on one line, and never a secret?"""

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from relay import log
from relay.log import LONGEST, MASK, TRACE, Scrubber, plain
from relay.secret import Secret

SECRET = 'pässword"with\\odd/+&=signs'
FORMS = {
    "as it is": SECRET,
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64, no padding": base64.b64encode(SECRET.encode()).decode().rstrip("="),
    "in a URL": quote(SECRET, safe=""),
    "hex": SECRET.encode().hex(),
    "in JSON": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "as Python shows it": repr(SECRET)[1:-1],
}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a net of its own, and put logging back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr(log, "scrub", Scrubber([Secret(SECRET, "env:TOKEN")]))
    yield
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


def told(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines of a JSON log."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def begun(stream: io.StringIO | None = None, **how: Any) -> tuple[io.StringIO, Any]:
    """Set logging up on a stream; return it and a logger."""
    stream = stream or io.StringIO()
    log.set_up(stream, **how)
    return stream, structlog.get_logger()


def failed(message: str) -> ValueError:
    """Return an error that was really raised."""
    try:
        raise ValueError(message)  # noqa: TRY301 - as a bug would
    except ValueError as error:
        return error


def test_a_line_is_json() -> None:
    """What is no terminal gets JSON: what happened, how bad it is, when in UTC, and all else by name."""
    stream, logger = begun()

    logger.info("call.settled", call="call_1", tries=2, calls=["a"], late=False, next_at=None, took_ms=1.5)

    [line] = told(stream)
    at = line.pop("at")
    assert at.endswith("Z")
    assert {
        "event": "call.settled",
        "level": "info",
        "call": "call_1",
        "tries": 2,
        "calls": ["a"],
        "late": False,
        "next_at": None,
        "took_ms": 1.5,
    } == line


@pytest.mark.parametrize("json", [True, False])
def test_one_outcome_is_one_line(*, json: bool) -> None:
    """A value from outside can't feign a line of its own, nor steer the terminal."""
    stream, logger = begun(json=json)
    nasty = "a\nb\r\x1b[31m\x9b1m\x85"

    logger.warning("hook.refused", why=nasty, rules=[nasty], case={"id": nasty})
    logging.getLogger("uvicorn").warning("from %s", nasty)

    shown = stream.getvalue()
    assert 2 == shown.count("\n")
    assert not set("\r\x1b" if json else "\r\x1b\x9b\x85") & set(shown)


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_secret_is_never_said(form: str, *, json: bool) -> None:
    """In no form, in no field, at no depth, in no error's text and in no other library's line."""
    stream, logger = begun(json=json)
    said = f"before {form} after"

    logger.error(
        f"event {said}",  # noqa: G004 - as a careless line would
        why=said,
        list=[said, [said]],
        table={said: {"x": said}},
        raw=said.encode(),
        pair=(said,),
    )
    logger.error("call.failed", exc_info=failed(said))
    logging.getLogger("httpx").error("GET %s", said)
    logging.getLogger("aiohttp").error("broken", exc_info=failed(said))

    shown = stream.getvalue()
    assert not [one for one in FORMS.values() if one in shown]
    assert not [one for one in ("ssword", "signs", SECRET.encode().hex()[:40]) if one in shown]
    assert 10 <= shown.count(MASK)
    assert "before" in shown
    assert "after" in shown


def test_an_answer_is_scrubbed() -> None:
    """A provider that sends our secret back does not bring it into the database."""
    scrub = Scrubber([Secret(SECRET, "env:TOKEN")])

    body = json.dumps({"token": SECRET, "n": 1}, ensure_ascii=False).encode()

    assert {"token": MASK, "n": 1} == json.loads(scrub.bytes(body))


@pytest.mark.parametrize("before", ["", "x", "ann:", "a longer word "])
@pytest.mark.parametrize("after", ["", "y", "and", "and more of it"])
def test_a_secret_inside_base64(before: str, after: str) -> None:
    """Whatever stands around it, as in Basic's "user:password", and in both alphabets."""
    scrub = Scrubber([Secret(SECRET, "env:TOKEN")])
    raw = f"{before}{SECRET}{after}".encode()

    for text in (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()):
        left = scrub.text(text)

        assert MASK in left
        assert len(left.replace(MASK, "")) <= len(base64.b64encode(f"{before}{after}".encode())) + 8


def test_what_may_be_part_of_an_id_stays_in_data() -> None:
    """An app id of a few digits goes from the log, but stays in what programs read: it could be a number."""
    scrub = Scrubber([Secret("4711", "env:APP_ID"), Secret("sk_live_of_some_length", "env:KEY")])
    said = b'{"id": 47110815, "key": "sk_live_of_some_length"}'

    assert b'{"id": 47110815, "key": "***"}' == scrub.bytes(said)
    assert '{"id": ***0815, "key": "***"}' == scrub.text(said.decode())


def test_short_and_late_secrets() -> None:
    """A secret of three letters is not looked for, it would blank out ordinary text; one learned later is."""
    scrub = Scrubber([Secret("abc", "env:A")])
    scrub.learn([Secret("abcd", "env:B"), Secret("abcd-and-more", "env:C")])

    assert f"abc {MASK} {MASK}" == scrub.text("abc abcd abcd-and-more")


def test_long_values_are_cut() -> None:
    """No value fills the disk; of a traceback the end is kept, which names the error."""
    stream, logger = begun()

    logger.error("x", why="w" * 10_000, many=["m"] * 10_000, exc_info=failed("e" * 100_000 + " the end"))

    [line] = told(stream)
    assert (LONGEST, LONGEST) == (len(line["why"]), len(line["many"]))
    assert TRACE == len(line["exception"])
    assert line["exception"].endswith(" the end")


def test_a_secret_at_the_cut_is_not_left_in_half() -> None:
    """What is cut is cut after the secrets are out."""
    stream, logger = begun()

    logger.info("x", why="w" * (LONGEST - 5) + SECRET)

    assert SECRET[:2] not in stream.getvalue()


def test_text_when_asked_for() -> None:
    """People get text: the name of what happened, then what is known of it, and nothing that is empty."""
    stream, logger = begun(json=False)

    logger.info("call.settled", call="call_1", why="two words", next_at=None, flaw="", rules=[])

    [line] = stream.getvalue().splitlines()
    assert "call.settled" in line
    assert "call=call_1" in line
    assert "why='two words'" in line
    assert not [word for word in ("next_at", "flaw", "rules", "\x1b") if word in line]


def test_text_on_a_terminal_has_colours() -> None:
    """A terminal gets text and colours unless JSON is asked for."""
    shown, logger = begun(Terminal())
    logger.info("call.settled")
    asked, logger = begun(Terminal(), json=True)
    logger.info("call.settled")

    assert "\x1b[" in shown.getvalue()
    assert "call.settled" == told(asked)[0]["event"]


def test_a_traceback_stays_readable() -> None:
    """In text, a bug is shown line by line."""
    stream, logger = begun(json=False)

    logger.error("http.failed", exc_info=failed("it broke\x1b[2J"))

    assert "ValueError: it broke\\x1b[2J" == stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("name", ["httpx", "uvicorn.error", "aiohttp.client", "asyncio"])
def test_other_libraries_go_the_same_way(name: str) -> None:
    """Their warnings are lines like ours; what they say below that is left out: httpx tells whole URLs."""
    stream, _ = begun(level="debug")

    logging.getLogger(name).info("HTTP Request: GET https://example.org/?key=1")
    logging.getLogger(name).warning("slow: %d s", 7)

    assert [("slow: 7 s", "warning")] == [(line["event"], line["level"]) for line in told(stream)]


def test_only_what_was_asked_for() -> None:
    """Below the level nothing is said."""
    stream, logger = begun(level="warning")

    logger.info("event.taken")
    logger.warning("hook.refused")

    assert ["hook.refused"] == [line["event"] for line in told(stream)]


@pytest.mark.parametrize("json", [True, False])
def test_nothing_from_outside_steers_a_terminal(*, json: bool) -> None:
    """No control character and no mark of direction comes out as it is, wherever in a line it stands."""
    bad = "a\x1b[31m\x9b31m\u202eb\u2028\x7f"
    stream, logger = begun(json=json)

    logger.info("hook.refused", source=bad, why=[bad, {bad: bad}])
    line = stream.getvalue()

    assert not set(bad[1:]) & set("\x1b\x9b\u202e\u2028\x7f") & set(line)
    if json:
        assert bad == told(stream)[0]["source"]


def test_plain_text_keeps_what_can_be_read() -> None:
    """Letters of all alphabets stay; controls, bidi marks and halves of characters become escapes."""
    assert "文件 ü\\n\\t\\x1b\\x7f\\u202e\\ud800" == plain("文件 ü\n\t\x1b\x7f\u202e\ud800")
    assert "a\nb" == plain("a\nb", "\n")
