"""Do the providers' files keep their word?  Every example in them is run: request, outcome, state."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from relay.call import Call, Dead, Done, Kind, Refused, Retry, Seen, Step, Unknown, Verdict
from relay.judge import judge
from relay.load import load
from relay.look import judge_check, judge_look
from relay.provider import Action, Example, Provider, Reply, Request, Shape
from relay.render import checked, request
from relay.trial import Trial, read

ROOT = Path(__file__).parent.parent
PROVIDERS = {
    **load(ROOT / "rules.toml", {}, secrets=False).providers,
    **load(ROOT / "tests/data/confirm.toml", {}, secrets=False).providers,
}
NOW = 1_700_000_000_000

WORDS = {Done: "done", Retry: "retry", Unknown: "unknown", Dead: "dead"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One example, and whose it is."""

    provider: Provider
    action: Action
    number: int
    example: Example

    def __str__(self) -> str:
        """Name it for the list of tests."""
        said = self.example.outcome or self.example.state or "request"
        return f"{self.provider.name}.{self.action.name}[{self.number}]: {said}"

    def request(self, shape: Shape) -> Request:
        """Fill *shape* with the example's values."""
        values = checked(self.action, self.example.with_)
        return request(self.provider, shape, self.action, values, NOW, "call_1")

    def trial(self, step: Step, kind: Kind = Kind.RETRY) -> Trial:
        """Return a first try of the example's call."""
        call = Call(
            id="call_1",
            event="ev_1",
            case="case_1",
            key="key",
            kind=kind,
            rule="rule",
            provider=self.provider.name,
            action=self.action.name,
            values=self.example.with_,
            step=step,
            due_at=NOW,
            attempts=1,
            created_at=NOW,
        )
        return Trial(provider=self.provider, action=self.action, call=call, now=NOW, luck=0.5)


def cases() -> Iterator[Case]:
    """Yield every example of every action of every provider."""
    for provider in PROVIDERS.values():
        for action in provider.actions.values():
            for number, example in enumerate(action.examples, 1):
                yield Case(provider=provider, action=action, number=number, example=example)


CASES = list(cases())


def reply(answer: Any) -> Reply:
    """Return an example's answer as the one that came back."""
    body = orjson.dumps(answer["json"]) if "json" in answer else answer.get("text", "").encode()
    return Reply(status=answer["status"], headers=answer.get("headers", {}), body=body)


def word(verdict: Verdict) -> str:
    """Return what a provider's file calls a verdict."""
    return "refused" if isinstance(verdict.signal, Refused) else WORDS[type(verdict.outcome)]


def shown(made: Request, base_url: str) -> dict[str, Any]:
    """Take a request apart into the words of an example."""
    url = urlsplit(made.url)
    parts: dict[str, Any] = {
        "method": made.method,
        "path": url.path.removeprefix(urlsplit(base_url).path.rstrip("/")),
        "query": dict(parse_qsl(url.query)),
        "headers": {name.lower(): value for name, value in made.headers},
    }
    if isinstance(made.body, bytes):
        return parts | {"json": orjson.loads(made.body) if made.body else None}
    files = {name: str(path.relative_to(made.body.root)) for name, path, _ in made.body.files}
    return parts | {"multipart": dict(made.body.fields) | files}


@pytest.mark.parametrize("case", [case for case in CASES if case.example.request], ids=str)
def test_values_become_the_request(case: Case) -> None:
    """The example's values make the request that it shows; it may leave out headers and query values."""
    expected = dict(case.example.request)

    found = shown(case.request(case.action.shape), case.provider.base_url)

    for part in ("headers", "query"):
        some: Any = expected.pop(part, {})
        assert some == {key: value for key, value in found[part].items() if key in some}
    assert expected == {key: found[key] for key in expected}


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.example.with_ and case.action.name == "retry"], ids=str
)
def test_values_become_the_look(case: Case) -> None:
    """What fills a retry fills its check, too: a call in doubt can be looked up."""
    assert case.action.check is not None

    made = case.request(case.action.check.shape)

    assert "GET" == made.method
    assert made.url.startswith(case.provider.base_url)
    assert b"" == made.body


@pytest.mark.parametrize("case", [case for case in CASES if case.example.answer], ids=str)
def test_an_answer_has_the_outcome(case: Case) -> None:
    """The example's answer is judged as it says."""
    verdict = judge(case.trial(Step.SEND), reply(case.example.answer))

    assert case.example.outcome == word(verdict)


@pytest.mark.parametrize("case", [case for case in CASES if case.example.look], ids=str)
def test_a_look_shows_the_state(case: Case) -> None:
    """The example's state is read off the look, and only one that has failed is called."""
    assert case.action.check is not None
    answer = reply(case.example.look)

    reading = read(case.action.check.states, answer)
    outcome = judge_look(case.trial(Step.LOOK), answer).outcome

    assert reading is not None
    assert case.example.state == reading.is_
    step = outcome.step if isinstance(outcome, Retry) else None
    assert (Step.SEND if case.example.state == "failed" else None) == step


@pytest.mark.parametrize("case", [case for case in CASES if case.example.look], ids=str)
def test_a_look_after_a_retry_says_if_it_helped(case: Case) -> None:
    """The same look tells, after an accepted retry, whether it helped; while it runs, it is asked again."""
    outcome = judge_check(case.trial(Step.LOOK, Kind.CHECK), reply(case.example.look)).outcome

    match case.example.state:
        case "running":
            assert isinstance(outcome, Retry)
            assert Step.LOOK is outcome.step
        case "refused":
            assert isinstance(outcome, Dead)
        case state:
            assert isinstance(outcome, Done)
            assert Seen(state) is outcome.seen


@pytest.mark.parametrize("case", [case for case in CASES if case.example.outcome == "retry"], ids=str)
def test_a_retry_is_not_early(case: Case) -> None:
    """Where the answer says how long to wait, the next try comes no sooner, whatever the luck."""
    answer = reply(case.example.answer)
    asked_ms = float(answer.headers.get("retry-after", 0)) * 1000

    outcome = judge(replace(case.trial(Step.SEND), luck=0.0), answer).outcome

    assert isinstance(outcome, Retry)
    assert outcome.at >= NOW + asked_ms


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)
def test_every_reading_has_an_example(provider: Provider) -> None:
    """Each line that reads an answer or a state is the one that some example meets: none is idle."""
    met: list[object] = []
    for action in provider.actions.values():
        states = action.check.states if action.check else ()
        answers = (*action.outcomes, *provider.outcomes)
        met += [read(answers, reply(example.answer)) for example in action.examples if example.answer]
        met += [read(states, reply(example.look)) for example in action.examples if example.look]

        assert [] == [reading for reading in (*answers, *states) if reading not in met]
        assert any(example.request for example in action.examples)


def test_an_example_says_something() -> None:
    """An answer comes with its outcome, a look with its state, and either with nothing else's."""
    assert len(PROVIDERS) == 5
    for case in CASES:
        example = case.example
        assert bool(example.answer) is bool(example.outcome), str(case)
        assert bool(example.look) is bool(example.state), str(case)
        assert example.request or example.answer or example.look, str(case)
