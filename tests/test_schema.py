"""The keys of the operator's files: what their values may be, their defaults and their descriptions."""

import dataclasses
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from relay import schema
from relay.compile import base_url_flaw
from relay.provider import Limit, Provider, Timeouts, Value
from relay.rule import Source
from relay.schema import duration, every_ms


@pytest.mark.parametrize(
    ("text", "millis"),
    [("500ms", 500), ("10s", 10_000), ("1.5s", 1_500), ("5m", 300_000), ("7d", 604_800_000)],
)
def test_durations(text: str, millis: int) -> None:
    """A time is a number and its unit."""
    assert millis == duration(text)


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
}
OTHER_NAMES = {"dedupe": "dedupe_ms"}


@pytest.mark.parametrize("model", [*SAME], ids=lambda model: model.__name__)
def test_a_default_is_the_one_of_the_word_behind_it(model: type[BaseModel]) -> None:
    """What a key is without being written is what the value is without being given."""
    fields = {field.name: field.default for field in dataclasses.fields(SAME[model])}
    shared = {name: f for name, f in model.model_fields.items() if OTHER_NAMES.get(name, name) in fields}
    plain = {
        name: (fields[OTHER_NAMES.get(name, name)], field.default)
        for name, field in shared.items()
        if not field.is_required() and isinstance(field.default, str | int | float | None)
    }

    assert plain
    for name, (word, key) in plain.items():
        if word is not dataclasses.MISSING:
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
