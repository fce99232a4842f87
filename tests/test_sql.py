"""Is the SQL one text for both engines, and does it find its rows by index?"""

import os
import re
from collections.abc import Iterator
from contextlib import closing

import apsw
import apsw.ext
import psycopg
import pytest
from conftest import Door

from relay.engine import migrations, statements
from relay.event import Decision
from relay.store import Store

LOCK = "FOR UPDATE SKIP LOCKED"
NAMES = sorted(statements(""))
SCHEMA = {name: text for _, name, text in migrations()}
READS = re.compile(r"SCAN (?!(opened|stormed)$|call USING INDEX call_key$)")
"""A whole table is read. A scan of a subquery is one of the few rows it picked; runs of watches are few."""
HOT = {
    "known", "remember", "forget",
    "due", "out", "next_due", "claim", "under_way", "end", "settle", "change",
    "cancel", "lost", "sweep", "call",
    "take_gate", "keep_gate",
    "named", "name", "take_case", "keep_case", "case", "overdue", "next_deadline",
    "lately", "storming", "ready", "calm", "caught", "take_weather", "keep_weather",
    "watch", "keep_watch", "runs", "old_runs", "drop_tries", "drop_call", "sighting", "still_there", "missed",
    "unsee",
    "bears", "moments", "tries_of", "attempts",
    "take_span", "open_span", "keep_span", "end_span", "close_span", "quiet_spans", "ended_spans",
    "next_span",
    "wind_back", "marked", "collect", "collected", "uncollect", "redecide", "event",
}  # fmt: skip
"""Statements that run for every event and call, or every few seconds: none may read a whole table."""


def bare(text: str) -> str:
    """Return *text* without its comments."""
    return re.sub(r"--.*", "", text)


def numbered(text: str) -> str:
    """Turn :name into $n, as PREPARE wants it."""
    names = list(dict.fromkeys(re.findall(r":(\w+)", text)))
    return re.sub(r":(\w+)", lambda found: f"${names.index(found[1]) + 1}", text)


@pytest.fixture
def sqlite() -> Iterator[apsw.Connection]:
    """Open an empty SQLite database with relay's tables."""
    with closing(apsw.Connection(":memory:")) as connection:
        for text in SCHEMA.values():
            connection.execute(text)
        yield connection


@pytest.fixture
def postgres() -> Iterator[psycopg.Connection]:
    """Open a PostgreSQL database with relay's tables, in a schema that is dropped afterwards."""
    place = os.environ.get("RELAY_TEST_POSTGRES")
    if not place:
        pytest.skip("no PostgreSQL: set RELAY_TEST_POSTGRES")
    with psycopg.connect(place) as connection:
        connection.execute("CREATE SCHEMA relay_test_sql")
        connection.execute("SET LOCAL search_path TO relay_test_sql")
        for text in SCHEMA.values():
            connection.execute(text.encode())
        yield connection
        connection.rollback()


@pytest.mark.parametrize("name", NAMES)
def test_each_statement_prepares_on_sqlite(sqlite: apsw.Connection, name: str) -> None:
    """Every table and column that a statement names is there, and it is one statement."""
    read = apsw.ext.query_info(sqlite, statements("")[name])

    assert not read.query_remaining


def test_each_statement_prepares_on_postgresql(postgres: psycopg.Connection) -> None:
    """The same texts, with the lock put in, are good on PostgreSQL with the types that it infers."""
    refused = {}
    for name, text in statements(LOCK).items():
        try:
            with postgres.transaction():
                postgres.execute(f"PREPARE relay_{name} AS {numbered(text)}".encode())
        except psycopg.Error as error:
            refused[name] = str(error)

    assert {} == refused


def test_each_parameter_has_one_type_on_postgresql(postgres: psycopg.Connection) -> None:
    """Instants and numbers are BIGINT, bytes are BYTEA, all else is TEXT: nothing narrower is inferred."""
    for name, text in statements(LOCK).items():
        postgres.execute(f"PREPARE relay_{name} AS {numbered(text)}".encode())
    types = postgres.execute("SELECT DISTINCT unnest(parameter_types)::text FROM pg_prepared_statements")

    assert {"bigint", "bytea", "text"} == {row[0] for row in types}


@pytest.mark.parametrize("name", [*NAMES, *SCHEMA])
def test_the_house_rules_hold(name: str) -> None:
    """Nothing trips a driver's placeholders: no "::", no percent sign, no colon in a literal."""
    text = SCHEMA.get(name) or statements(LOCK)[name]

    assert "::" not in text
    assert "%" not in text
    assert "?" not in bare(text)
    assert not [literal for literal in re.findall(r"'[^']*'", bare(text)) if ":" in literal]
    assert "{" not in text


@pytest.mark.parametrize("name", NAMES)
def test_comments_name_only_parameters_of_their_statement(name: str) -> None:
    """A driver that fills in placeholders does not know a comment from the rest."""
    text = statements(LOCK)[name]

    assert set(re.findall(r":(\w+)", text)) == set(re.findall(r":(\w+)", bare(text)))


def test_the_lock_is_put_in_only_where_rows_are_taken() -> None:
    """The one difference between the engines: who takes calls skips those that another is taking."""
    assert {"due", "lost"} == {name for name, text in statements(LOCK).items() if LOCK in text}
    assert not [name for name, text in statements("").items() if "{" in text]


@pytest.mark.parametrize("name", sorted(HOT))
def test_a_frequent_statement_reads_no_whole_table(sqlite: apsw.Connection, name: str) -> None:
    """A relay that has kept a million events is as quick as on its first day."""
    text = statements("")[name]
    plan = list(sqlite.execute(f"EXPLAIN QUERY PLAN {text}", dict.fromkeys(re.findall(r":(\w+)", text), 1)))

    assert not [step[3] for step in plan if READS.match(step[3])]
    # Whatever a provider ever had is as much as a whole table.
    assert not [step[3] for step in plan if "cases_opened (provider=?)" in step[3]]


def test_the_engine_has_made_every_table(store: Door) -> None:
    """A fresh database has the schema of the migrations, so that every question can be asked."""
    assert [] == store(Store.events, decision=Decision.MATCHED.value)
    assert ([], [], {}, {}) == (
        store(Store.calls),
        store(Store.attempts, "ca_1"),
        store(Store.counts),
        store(Store.gates),
    )
