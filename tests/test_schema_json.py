"""Does the JSON Schema let pass what relay takes, and mark what relay refuses?"""

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from relay.cli import main
from relay.errors import ConfigError
from relay.load import BUILT_IN
from relay.match import ENVELOPE, Pattern
from relay.match.operator import OPERATORS
from relay.match.pattern import CHOICES
from relay.schema.editor import OPERANDS, Kind, for_editors

ROOT: Final = Path(__file__).parent.parent
OURS: Final = ROOT / "docs" / "rules.schema.json"
OVERLAY: Final = """
base_url = "https://eu.example.com"
limit = { rate = "60/min" }
[action.retry.check]
wait = ["200ms"]
"""


def printed(*options: str) -> str:
    """Return what `relay schema` prints."""
    done = CliRunner().invoke(main, ["schema", *options])
    assert 0 == done.exit_code, done.output
    return done.stdout


def flaws(kind: Kind, text: str) -> list[str]:
    """Return where a file is not as the schema says."""
    checker = Draft202012Validator(for_editors(kind))
    return sorted(error.json_path for error in checker.iter_errors(tomllib.loads(text)))


@pytest.mark.parametrize("kind", ["rules", "provider", "source"])
def test_it_is_a_schema(kind: str) -> None:
    """Each is a schema of draft 2020-12, printed as it is made, and says a line about each key."""
    made = json.loads(printed(f"--{kind}"))

    Draft202012Validator.check_schema(made)
    keys = [
        (name, key)
        for name, table in {"": made, **made["$defs"]}.items()
        for key, schema in table.get("properties", {}).items()
        if not schema.get("description")
    ]
    assert [] == keys


def test_our_schema_is_what_relay_prints() -> None:
    """Ours lies where our rules.toml looks for it; `python tests/test_schema_json.py` writes it anew."""
    assert printed() == printed("--rules") == OURS.read_text()
    first, *_ = (ROOT / "rules.toml").read_text().splitlines()
    assert f"#:schema {OURS.relative_to(ROOT)}" == first


FILES: list[tuple[Kind, Path]] = [
    ("rules", ROOT / "rules.toml"),
    ("rules", ROOT / "relay" / "demo" / "first.toml"),
    *(("provider", file) for file in sorted((BUILT_IN / "providers").glob("*.toml"))),
    *(("source", file) for file in sorted((BUILT_IN / "sources").glob("*.toml"))),
]


@pytest.mark.parametrize(("kind", "file"), FILES, ids=lambda one: getattr(one, "name", str(one)))
def test_our_own_files_pass(kind: Kind, file: Path) -> None:
    """Nothing in them is marked."""
    assert [] == flaws(kind, file.read_text())


def test_a_file_over_a_built_in_one_passes() -> None:
    """It has only what differs; each row of a list is whole all the same."""
    assert [] == flaws("provider", OVERLAY)
    assert ["$.outcomes[0]"] == flaws("provider", 'outcomes = [{ is = "done" }]')


RULE = '[[rule]]\nname = "a"\nfrom = "writer"\nwhen.type = "x"\n'
WRONG: list[tuple[Kind, str, str]] = [
    ("rules", 'rules = "x"', "$"),
    ("rules", RULE + 'wehn = "x"', "$.rule[0]"),
    ("rules", RULE + "budget.retrys = 1", "$.rule[0].budget"),
    ("rules", RULE + "budget.retries = 0", "$.rule[0].budget.retries"),
    ("rules", RULE + 'budget.within = "1 day"', "$.rule[0].budget.within"),
    ("rules", RULE + 'budget.wait = ["1x"]', "$.rule[0].budget.wait"),
    ("rules", RULE + 'approve = "yes"', "$.rule[0].approve"),
    ("rules", RULE + 'mode = "dark"', "$.rule[0].mode"),
    ("rules", RULE + "when.a = { prefix = 1 }", "$.rule[0].when.a"),
    ("rules", RULE + 'expect = { when = { a = [] }, within = "1m", by = "{a}" }', "$.rule[0].expect.when.a"),
    ("rules", '[[rule]]\nfrom = "writer"\nwhen.type = "x"', "$.rule[0]"),
    ("rules", '[source.a]\nverify = "rsa"', "$.source.a.verify"),
    ("rules", '[source.a]\nsecrets = ["hunter2"]', "$.source.a.secrets"),
    ("rules", '[provider.a]\ntoken = "hunter2"', "$.provider.a.token"),
    ("rules", '[provider.a]\nlimit.rate = "often"', "$.provider.a.limit.rate"),
    ("rules", '[[watch]]\nname = "a"\ncall = "a.b"\nevery = 5', "$.watch[0].every"),
    ("provider", "ttile = 1", "$"),
    ("provider", 'outcomes = [{ is = "done", when = {} }]', "$.outcomes[0].when"),
    ("provider", 'action.a.check.failed = "x"', "$.action.a.check.failed"),
    ("provider", 'auth = { heder = "a" }', "$.auth"),
    ("source", 'secrets = "env:A"', "$"),
    ("source", 'dedupe = "ever"', "$.dedupe"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "place"), WRONG)
def test_what_relay_refuses_is_marked(kind: Kind, text: str, place: str) -> None:
    """Where it stands, and nowhere else."""
    assert [place] == flaws(kind, text)


# -- the language of patterns --


def test_every_operator_has_its_row() -> None:
    """Nothing that a pattern may say is unknown to editors."""
    known = for_editors("rules")["$defs"]["Pattern"]["properties"]

    assert list(OPERATORS) == [name for name in OPERATORS if name in OPERANDS]
    assert set(OPERATORS) == set(OPERANDS)
    assert {*CHOICES, *ENVELOPE} == set(known)


GOOD = [
    "a = 1", 'a = "x"', "a = true", 'a = ["x", 1.5, false]', 'a.b.c = "x"', '"a.b" = "x"',
    'a = [{ exists = false }, "x"]', "a = { exists = true }", 'a = { exactly = "prefix" }',
    'a = { prefix = "x" }', 'a = { prefix = { equals-ignore-case = "x" } }', 'a = { suffix = "x" }',
    'a = { equals-ignore-case = "x" }', 'a = { wildcard = "x*" }', 'a = { regex = "x+" }',
    "a = { anything-but = 1 }", 'a = { anything-but = ["x"] }',
    'a = { anything-but = { prefix = ["x", "y"] } }', 'a = { anything-but = { cidr = "10.0.0.0/8" } }',
    "a = { is-null = true }", 'a = { numeric = [">", 0, "<=", 5] }', 'a = { numeric = ["=", 5] }',
    'a = { cidr = "10.0.0.0/8" }', 'a = { all-of = [{ prefix = "x" }, { suffix = "y" }] }',
    'a = { field = ["!=", "b.c"] }', 'a = { after = "2026-01-31T08:00:00Z" }',
    'a = { before = "2026-01-31T08:00:00+01:00" }', 'a = { older-than = "15m" }',
    'a = { newer-than = "7d" }', '"$or" = [{ a = 1 }, { b = 1 }]',
    'any-of = [{ a = 1 }, { b.c = { prefix = "x" } }]', '"$source" = "writer"',
    '"$headers".x-kind = { prefix = "x" }',
]  # fmt: skip
BAD = [
    "a = []", "a = [[1]]", "a = {}", "a = { exists = 1 }", "a = { exactly = 1 }", "a = { prefix = 1 }",
    'a = { prefix = { suffix = "x" } }', "a = { suffix = true }", "a = { equals-ignore-case = [] }",
    "a = { wildcard = 1 }", "a = { regex = 1 }", "a = { anything-but = [] }",
    "a = { anything-but = [true] }", "a = { anything-but = { exists = true } }", 'a = { is-null = "x" }',
    "a = { numeric = 5 }", 'a = { numeric = [">"] }', 'a = { numeric = ["!", 5] }',
    'a = { numeric = [">", "x"] }', 'a = { cidr = "10.0.0.0" }', "a = { all-of = [] }",
    'a = { all-of = "x" }', 'a = { field = ["=", 1] }', 'a = { field = "b" }', "a = { after = 1 }",
    "a = { before = true }", 'a = { older-than = "soon" }', "a = { newer-than = 5 }",
    'a = { prefix = "x", suffix = "y" }', 'a = [{ prefix = "x", suffix = "y" }]', '"$or" = [{ a = 1 }]',
    "any-of = { a = 1 }",
]  # fmt: skip


@pytest.mark.parametrize("text", [*GOOD, *BAD])
def test_patterns_are_read_alike(text: str) -> None:
    """What relay reads is not marked; what it refuses for its form is."""
    pattern = tomllib.loads(text)
    checker = Draft202012Validator({"$ref": "#/$defs/Pattern", "$defs": for_editors("rules")["$defs"]})
    marked: list[Any] = list(checker.iter_errors(pattern))
    try:
        Pattern(pattern, toml=True, envelope=ENVELOPE)
    except ConfigError:
        assert text in BAD
    else:
        assert text in GOOD

    assert bool(marked) is (text in BAD)


if __name__ == "__main__":
    OURS.write_text(printed())
