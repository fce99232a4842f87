"""The keys of the operator's files: what their values may be, their defaults and their descriptions."""

import dataclasses
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from relay import schema
from relay.case import Policy
from relay.compile import base_url_flaw
from relay.provider import Action, Check, Limit, Listing, Paging, Provider, Storm, Timeouts, Value
from relay.schema import duration, every_ms, said
from relay.source import Source


@pytest.mark.parametrize(
    ("text", "millis"),
    [("500ms", 500), ("10s", 10_000), ("1.5s", 1_500), ("5m", 300_000), ("7d", 604_800_000)],
)
def test_durations(text: str, millis: int) -> None:
    """A time is a number and its unit."""
    assert millis == duration(text)


@pytest.mark.parametrize("text", ["0s", "500ms", "1500ms", "90s", "65m", "6h", "1d", "7d"])
def test_a_time_is_said_as_it_is_written(text: str) -> None:
    """In the largest unit that fits, and it reads as what it was."""
    assert text == said(duration(text))
    assert "1d" == said(duration("24h"))


@pytest.mark.parametrize("text", ["", "5", 5, "5 s", "-5s", "5min", "s", "1e3s", "٣s", None])
def test_no_durations(text: object) -> None:
    """A number without a unit could be anything."""
    with pytest.raises(ValueError, match="expected a time"):
        duration(text)


@pytest.mark.parametrize(
    ("rate", "millis"),
    [("60/min", 1_000), ("400/min", 150), ("10/s", 100), ("3/8.5s", 2_834), ("7/h", 514_286)],
)
def test_rates_are_rounded_up(rate: str, millis: int) -> None:
    """A gap is never shorter than the rate allows."""
    assert millis == every_ms(rate)


@pytest.mark.parametrize("rate", ["", "0/s", "60", "60/m", "60 / min", "1/0s", "-1/s"])
def test_no_rates(rate: str) -> None:
    """What can't be read as a rate is refused."""
    with pytest.raises(ValueError, match="expected a rate"):
        every_ms(rate)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "api.example",
            "//api.example",
            "ftp://api.example",
            "https://",
            "https:///v1",
            "http://api.example",
        ),
        *("https://u@api.example", "https://u:p@api.example", "https://@api.example"),
        *("https://api.example?x", "https://api.example/#x", "https://api.example/v1?"),
        *(
            "https://api.example\\@evil",
            "https://api.example\n",
            "https://a pi.example",
            "https://äpi.example",
        ),
        *(
            "https://api.example:99999",
            "https://[::1",
            "https://{secret.x}.example",
            "https://a.example/../b",
        ),
    ],
)
def test_base_urls_that_lead_astray(url: str) -> None:
    """A base URL is https, a host, and perhaps a port and a path."""
    assert base_url_flaw(url, allow_http=False)


@pytest.mark.parametrize("url", ["https://api.example", "https://api.example:8443/v1", "https://[::1]/"])
def test_base_urls(url: str) -> None:
    """Plain https is fine; http only if it was said out loud."""
    assert "" == base_url_flaw(url, allow_http=False)
    assert "" == base_url_flaw(url.replace("https", "http"), allow_http=True)


SAME: dict[type[BaseModel], type] = {
    schema.SourceFile: Source,
    schema.LimitFile: Limit,
    schema.TimeoutsFile: Timeouts,
    schema.ValueFile: Value,
    schema.ProviderFile: Provider,
    schema.StormFile: Storm,
    schema.ActionFile: Action,
    schema.CheckFile: Check,
    schema.ListingFile: Listing,
    schema.PageFile: Paging,
    schema.BudgetFile: Policy,
    schema.ApproveFile: Policy,
    schema.BatchFile: Policy,
    schema.RuleFile: Policy,
}
OTHER_NAMES = {"dedupe": "dedupe_ms", "within": "within_ms", "wait": "wait_ms"}
OTHER_NAMES_IN: dict[type[BaseModel], dict[str, str]] = {
    schema.ApproveFile: {"within": "approve_ms", "then": "approve_then"},
    schema.BatchFile: {"wait": "batch_ms"},
}
NOT_THE_SAME = {
    (schema.ActionFile, "on_unknown"),
    (schema.ActionFile, "keep"),
    (schema.RuleFile, "batch"),
    (schema.RuleFile, "priority"),
}
"""Keys whose default depends on others, or that say the same in another way."""


@pytest.mark.parametrize("model", [*SAME], ids=lambda model: model.__name__)
def test_a_default_is_the_one_of_the_word_behind_it(model: type[BaseModel]) -> None:
    """What a key is without being written is what the value is without being given."""
    fields = {field.name: field.default for field in dataclasses.fields(SAME[model])}
    names = {
        name: {**OTHER_NAMES, **OTHER_NAMES_IN.get(model, {})}.get(name, name) for name in model.model_fields
    }
    plain = {
        name: (fields[names[name]], field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
        if names[name] in fields and not field.is_required() and (model, name) not in NOT_THE_SAME
    }
    plain = {
        name: (word, key)
        for name, (word, key) in plain.items()
        if isinstance(key, str | int | float | list | None) and word is not dataclasses.MISSING
    }

    assert plain
    for name, (word, key) in plain.items():
        match word, key:
            case int(), str():
                assert word == duration(key), name
            case tuple(), list():
                assert [*word] == [duration(one) for one in key], name
            case _:
                assert word == key, name


def models() -> Iterator[type[BaseModel]]:
    """All tables of the file formats."""
    found = (getattr(schema, name) for name in dir(schema))
    return (one for one in found if isinstance(one, type) and issubclass(one, schema.Strict))


@pytest.mark.parametrize("model", [*models()], ids=lambda model: model.__name__)
def test_every_key_is_described(model: type[BaseModel]) -> None:
    """Each key has its line, for the schema, for the docs, and as the hint where it is missing."""
    assert [] == [name for name, field in model.model_fields.items() if not field.description]
    assert isinstance(model.model_json_schema(), dict)
