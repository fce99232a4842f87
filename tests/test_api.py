"""Does the admin's API show cases as they are, do what a person wants, and let nobody else in?"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from build import event
from starlette.applications import Starlette
from structlog.testing import capture_logs

from relay.case import Act, Failure, Policy
from relay.clock import now_ms, rfc3339
from relay.deed import Deed, Plan
from relay.engine import SQLite
from relay.errors import StoreBusy
from relay.event import Decision
from relay.keep import Keeper
from relay.log import scrub
from relay.secret import Secret
from relay.store import Store
from relay.web import api
from relay.web.problem import HANDLERS

TOKEN = "an-admins-token-of-the-tests"
CASES = "/api/v1/cases"
NAMES = {
    "id",
    "key",
    "provider",
    "rule",
    "state",
    "why",
    "opened_at",
    "ended_at",
    "retries",
    "next_at",
    "aliases",
}


@dataclass
class Api:
    """The admin's routes over a real store, without a worker."""

    keep: Any
    app: Starlette = field(init=False)
    woken: int = 0
    events: int = 0

    def __post_init__(self) -> None:
        self.app = Starlette(routes=api.ROUTES, exception_handlers=HANDLERS)
        self.app.state.keep, self.app.state.wake = self.keep, self.wake
        self.app.state.admin = Secret(TOKEN, "env:RELAY_ADMIN_TOKEN")

    def wake(self) -> None:
        """Count how often the worker was woken."""
        self.woken += 1

    def ask(self, method: str, path: str, *, token: str | None = TOKEN, **more: Any) -> httpx.Response:
        """Ask once, as an admin unless told otherwise."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= more.pop("headers", {})

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(asked())

    def fail(self, key: str, **more: Any) -> str:
        """Let an event tell that a resource failed; return its case's id."""
        self.events += 1
        given: dict[str, Any] = {
            "rule": "r", "provider": "flatfile", "action": "retry", "key": key, "values": {"job_id": "j"},
        }  # fmt: skip
        told = event({}, id=f"ev_{self.events}", digest=str(self.events), received_at=now_ms())
        failures = [Failure(**given | more)]
        recorded = asyncio.run(
            self.keep(
                Store.record,
                told,
                Plan(Decision.MATCHED, Deed(failures=tuple(failures))),
                version="v",
                dedupe_ms=1,
            )
        )
        case: str = recorded.moves[0].case.id
        return case

    def case(self, name: str) -> dict[str, Any]:
        """Return a case as the API shows it."""
        answer = self.ask("GET", f"{CASES}/{quote(name, safe='')}")
        assert 200 == answer.status_code, answer.text
        shown: dict[str, Any] = answer.json()
        return shown


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Api]:
    """Open the API over a fresh database."""
    keep = Keeper(SQLite(tmp_path / "relay.db"))
    yield Api(keep)
    keep.close()


HELD = Policy(approve=True)


# -- who is let in --


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", CASES), ("GET", f"{CASES}/{{0}}"), *(("POST", f"{CASES}/{{0}}/{act}") for act in Act)],
)
@pytest.mark.parametrize(
    "shown", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}", "Bearer \xe4"]
)
def test_nobody_comes_in_without_the_token(relay: Api, method: str, path: str, shown: str | None) -> None:
    """401 says what is wanted, the log says that somebody tried, and nothing was done."""
    case = relay.fail("k", policy=HELD)
    headers = {"Authorization": shown.encode("latin-1")} if shown else {}
    with capture_logs() as lines:
        answer = relay.ask(method, path.format(case), token=None, headers=headers)

    assert (401, 'Bearer realm="relay"') == (answer.status_code, answer.headers["www-authenticate"])
    assert "application/problem+json" == answer.headers["content-type"]
    assert ["admin.refused"] == [line["event"] for line in lines]
    assert TOKEN not in answer.text + str(lines)
    assert ("open", 1) == (relay.case(case)["state"], len(relay.case(case)["timeline"]))


@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_the_scheme_has_no_case(relay: Api, shown: str) -> None:
    """`bearer` is as good as `Bearer`, as HTTP has it."""
    assert 200 == relay.ask("GET", CASES, token=None, headers={"Authorization": shown}).status_code


# -- what is shown --


def test_cases_are_listed_newest_first_page_by_page(relay: Api) -> None:
    """`next` goes into `before`, until there is no more; nothing of it may be cached."""
    made = [relay.fail(f"k{number}") for number in range(5)]
    found: list[str] = []
    path: str | None = f"{CASES}?limit=2"
    while path:
        answer = relay.ask("GET", path)
        page = answer.json()
        found += [case["id"] for case in page["items"]]
        path = page["next"] and f"{CASES}?limit=2&before={page['next']}"

    assert [*reversed(made)] == found
    assert "no-store" == answer.headers["cache-control"]
    assert page["items"][0].keys() >= NAMES | {"action", "call", "budget", "storm"}


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        ("state=open", ["held"]),
        ("state=retrying", ["w", "k"]),
        ("provider=writer", ["w"]),
        ("rule=other", ["k"]),
        ("rule=other&state=open", []),
        ("state=closed", []),
    ],
)
def test_cases_of_one_kind(relay: Api, asked: str, keys: list[str]) -> None:
    """Filters leave what they name."""
    relay.fail("k", rule="other")
    relay.fail("w", provider="writer")
    relay.fail("held", policy=HELD)

    assert keys == [case["key"] for case in relay.ask("GET", f"{CASES}?{asked}").json()["items"]]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("state=opn", "did you mean 'open'?"),
        ("sate=open", "did you mean 'state'?"),
        ("limit=0", "from 1 to 1000"),
        ("limit=1001", "from 1 to 1000"),
        ("limit=x", "from 1 to 1000"),
        ("limit=1&limit=2", "stands twice"),
    ],
)
def test_what_a_list_is_not_asked_for(relay: Api, asked: str, hint: str) -> None:
    """A mistyped filter is told; it would else show everything."""
    answer = relay.ask("GET", f"{CASES}?{asked}")

    assert 400 == answer.status_code
    assert hint in answer.json()["detail"]


@pytest.mark.parametrize("key", ["flatfile:job_id=us_jb_1", "a/b", "a b?c#d", "ü%2F", "x/retry"])
def test_a_case_by_its_id_or_its_key(relay: Api, key: str) -> None:
    """Any key fits into the path when it is encoded; the timeline is in order."""
    case = relay.fail(key)
    again = relay.fail(key)
    shown = relay.case(key)

    answer = relay.ask("POST", f"{CASES}/{quote(key, safe='')}/reject")

    assert case == again == shown["id"]
    assert (409, "Not possible") == (answer.status_code, answer.json()["title"])
    assert shown == relay.case(case)
    assert [("opened", "ev_1"), ("joined", "ev_2")] == [(m["kind"], m["ref"]) for m in shown["timeline"]]
    assert {"at", "kind", "by", "what", "ref"} == shown["timeline"][0].keys()
    assert shown["opened_at"] == shown["timeline"][0]["at"]


@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("POST", "/close")])
def test_a_case_that_is_not_there(relay: Api, method: str, end: str) -> None:
    """404, with the key that is most like it."""
    relay.fail("flatfile:job_id=us_jb_1")
    answer = relay.ask(method, f"{CASES}/flatfile:job_id=us_jb_2{end}")

    assert (404, "No such case") == (answer.status_code, answer.json()["title"])
    assert "(did you mean 'flatfile:job_id=us_jb_1'?)" in answer.json()["detail"]


# -- what is done --


@pytest.mark.parametrize(
    ("act", "body", "before", "after", "told"),
    [
        (Act.RETRY, {}, Policy(wait_ms=(60_000,)), "retrying", "ann wants a retry"),
        (Act.CLOSE, {"why": "no use"}, Policy(), "closed", "no use"),
        (Act.SNOOZE, {"for": "2h"}, Policy(wait_ms=(60_000,)), "open", "snoozed until "),
        (Act.APPROVE, {}, HELD, "retrying", "ann said yes"),
        (Act.REJECT, {}, HELD, "closed", "ann said no"),
    ],
)
def test_what_a_person_wants_is_done(
    relay: Api, act: Act, body: dict[str, str], before: Policy, after: str, told: str
) -> None:
    """The answer has the case as it stands then and what was done; timeline and log say by whom."""
    case = relay.fail("k", policy=before)
    with capture_logs() as lines:
        answer = relay.ask("POST", f"{CASES}/k/{act}", json={"by": "ann"} | body)
    said = answer.json()
    *_, last = relay.case(case)["timeline"]

    assert (200, case, after) == (answer.status_code, said["case"]["id"], said["case"]["state"])
    assert {"act": act.value, "by": "ann", "what": last["what"]}.items() <= said["done"].items()
    assert ("ann", True) == (last["by"], last["what"].startswith(told))
    assert 1 == relay.woken
    assert ["ann"] == [line["by"] for line in lines if line["event"].startswith("case.")]


def test_no_body_is_a_wish_of_nobody(relay: Api) -> None:
    """A bare POST is enough; who acted is then the API."""
    relay.fail("k")
    done = relay.ask("POST", f"{CASES}/k/close").json()["done"]

    assert ("api", "api closed it") == (done["by"], done["what"])


def test_a_secret_in_a_reason_is_not_kept(relay: Api) -> None:
    """Who pastes a token as the reason does not find it in the timeline."""
    scrub.learn([Secret("a-token-pasted-by-mistake", "env:X")])
    relay.fail("k")
    relay.ask("POST", f"{CASES}/k/close", json={"why": "a-token-pasted-by-mistake is it"})

    assert "*** is it" == relay.case("k")["why"]


@pytest.mark.parametrize("act", [Act.APPROVE, Act.REJECT])
def test_what_can_not_be_done_now(relay: Api, act: Act) -> None:
    """409 says why not, and nothing is woken."""
    case = relay.fail("k")
    answer = relay.ask("POST", f"{CASES}/{case}/{act}")

    assert (409, "Not possible") == (answer.status_code, answer.json()["title"])
    assert "nothing waits for a yes" in answer.json()["detail"]
    assert 0 == relay.woken
    assert 1 == len(relay.case(case)["timeline"])


def test_one_key_of_two_providers_says_which(relay: Api) -> None:
    """409 names both; an id says which."""
    both = [relay.fail("k"), relay.fail("k", provider="writer")]
    several = relay.ask("POST", f"{CASES}/k/close")
    one = relay.ask("POST", f"{CASES}/{both[0]}/close")

    assert (409, 200) == (several.status_code, one.status_code)
    assert all(case in several.json()["detail"] for case in both)


@pytest.mark.parametrize(
    ("more", "status", "hint"),
    [
        ({"content": b"{"}, 400, "not JSON"),
        ({"json": []}, 400, "expected a JSON object"),
        ({"json": {"bye": "ann"}}, 400, "did you mean 'by'?"),
        ({"json": {"by": 1}}, 400, "expected by to be one line of text"),
        ({"json": {"by": "x" * 101}}, 400, "100 characters at most"),
        ({"json": {"why": "a\nb"}}, 400, "one line of text"),
        ({"json": {"for": "2h"}}, 400, "close has no use for for"),
        ({"json": {"why": "x" * 5000}}, 413, "at most 4096 bytes"),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "application/json"),
        ({"content": b"{}", "headers": {"Content-Encoding": "gzip"}}, 415, "as it is"),
    ],
)
def test_bodies_that_are_none(relay: Api, more: dict[str, Any], status: int, hint: str) -> None:
    """A body that is not understood changes nothing, and says what was expected."""
    case = relay.fail("k")
    more = {"headers": {"Content-Type": "application/json"}} | more
    answer = relay.ask("POST", f"{CASES}/{case}/close", **more)

    assert (status, status) == (answer.status_code, answer.json()["status"])
    assert "application/problem+json" == answer.headers["content-type"]
    assert hint in answer.json()["detail"]
    assert "retrying" == relay.case(case)["state"]


def test_a_snooze_lasts_as_long_as_is_said(relay: Api) -> None:
    """For so long, or until then."""
    relay.fail("k", policy=HELD)
    until = now_ms() + 26 * 3_600_000
    for body, least in (({"for": "25h"}, until - 3_600_000), ({"until": rfc3339(until)}, until)):
        case = relay.ask("POST", f"{CASES}/k/snooze", json=body).json()["case"]
        assert (rfc3339(least) or "") <= case["next_at"] <= (rfc3339(least + 60_000) or "")


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"for": "2h", "until": "2030-01-01T00:00:00Z"}, {"for": "soon"}, {"for": "999999999d"}),
        *({"until": "%Y-%m-%dT%H:%M:%S"}, {"until": "9999-12-31T23:59:59Z"}, {"until": "tomorrow"}),
        *({"until": "0001-01-01T00:00:00Z"}, {"until": "0001-01-01T00:00:00+14:00"}, {"for": "0s"}),
    ],
)  # fmt: skip
def test_a_snooze_that_never_ends_or_has(relay: Api, body: dict[str, str]) -> None:
    """It wants one time, with a time zone, to come, within a year."""
    relay.fail("k", policy=HELD)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    answer = relay.ask(
        "POST", f"{CASES}/k/snooze", json={name: tomorrow.strftime(text) for name, text in body.items()}
    )

    assert (400, "Snooze until when?") == (answer.status_code, answer.json()["title"])
    assert 1 == len(relay.case("k")["timeline"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/k/retyr", 404), ("POST", "/k", 405), ("GET", "/k/retry", 404), ("DELETE", "/k", 405)],
)
def test_routes_that_are_none(relay: Api, method: str, path: str, status: int) -> None:
    """An act that is none has a near miss; each answer is problem+json."""
    relay.fail("k")
    answer = relay.ask(method, CASES + path)

    assert status == answer.status_code
    assert "application/problem+json" == answer.headers["content-type"]
    assert ("did you mean 'retry'?" in answer.text) == (path == "/k/retyr")


@pytest.mark.parametrize(("method", "path"), [("GET", CASES), ("POST", f"{CASES}/k/close")])
def test_a_database_that_does_not_answer(method: str, path: str) -> None:
    """503, to be asked again; it is no hook's event that was lost."""

    async def keep(*_: Any, **__: Any) -> None:
        raise StoreBusy("no room on the disk")

    with capture_logs() as lines:
        answer = Api(keep).ask(method, path)

    assert (503, "5", "Not done") == (
        answer.status_code, answer.headers["retry-after"], answer.json()["title"]
    )  # fmt: skip
    assert ["admin.not_done"] == [line["event"] for line in lines]
