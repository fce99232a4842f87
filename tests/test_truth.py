"""Does each row of the truth tables hold, and has every operator enough of them?"""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from plainly import plainly

from relay.errors import ConfigError
from relay.event import Around
from relay.match import ENVELOPE, Pattern
from relay.match.operator import OPERATORS

NOW = 1769846400000
"""2026-01-31T08:00:00Z."""
AROUND = Around(
    {
        "$source": "flatfile",
        "$type": "job:failed",
        "$verified": "verified",
        "$id": "ev_1",
        "$headers": {"x-kind": "job"},
    },
    NOW,
)
TABLES: dict[str, list[dict[str, Any]]] = {
    name: rows
    for file in sorted((Path(__file__).parent / "data/truth").glob("*.toml"))
    for name, rows in tomllib.loads(file.read_text("utf-8")).items()
}
ROWS = {f"{name}-{number}": row for name, rows in TABLES.items() for number, row in enumerate(rows, 1)}
JUDGED = {name: row for name, row in ROWS.items() if "meets" in row}


def read(pattern: Any) -> Pattern:
    return Pattern(pattern, toml=True, envelope=ENVELOPE)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_holds(row: dict[str, Any]) -> None:
    """A pattern meets, misses or is refused as its row says; a miss has a reason and a match has none."""
    if "error" in row:
        with pytest.raises(ConfigError) as caught:
            read(row["pattern"])
        assert row["error"] in caught.value.problems[0].what
        return
    pattern, data = read(row["pattern"]), json.loads(row["event"])
    assert row["meets"] is pattern.meets(data, AROUND)
    assert row["meets"] is (pattern.miss(data, AROUND) is None)


@pytest.mark.parametrize("row", JUDGED.values(), ids=JUDGED)
def test_a_row_is_plainly_so(row: dict[str, Any]) -> None:
    """The plain matcher, which shares no code with relay's, reads every row in the same way."""
    around = {**AROUND.envelope, "$headers": {"x-kind": "job"}}
    pattern = json.loads(json.dumps(row["pattern"], default=str).replace("X-Kind", "x-kind"))
    assert row["meets"] is plainly(pattern, json.loads(row["event"]), around, NOW)


def test_the_tables_are_complete() -> None:
    """At least 300 rows in all; for each operator eight, of which some meet, some miss, some are refused."""
    assert sum(map(len, TABLES.values())) >= 300
    assert OPERATORS.keys() <= TABLES.keys()
    for name in OPERATORS:
        rows = TABLES[name]
        said = [json.dumps(row["pattern"], default=str) for row in rows]
        assert sum(f'"{name}' in text for text in said) >= 8, name
        assert {True, False, None} == {row.get("meets") for row in rows}, name
