"""Does the page of the rule language say what is so?  Each row of its tables is tried."""

import json
import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from test_docs import DOCS, blocks

from relay.errors import ConfigError, Unfit
from relay.load import load
from relay.match import ENVELOPE, Around, Pattern
from relay.match.operator import OPERATORS
from relay.template import at, fill

PAGE: Final = DOCS["rules.md"]
CELL: Final = re.compile(r"(?<!\\)\|")
AROUND: Final = Around({"$source": "jobs"}, 1_700_000_000_000)
"""What the examples stand in: an event of Tue, 14 Nov 2023."""


def table(name: str) -> list[list[str]]:
    """Return the rows of the table behind a mark, cell by cell."""
    lines = PAGE.partition(f"<!-- {name} -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    found = [[cell.strip().replace("\\|", "|") for cell in CELL.split(line)[1:-1]] for line in lines]
    assert len(found) > 30
    return found


def code(cell: str) -> str:
    """Return what stands in a cell's backticks."""
    return cell[1:-1]


def compiled(text: str) -> Pattern:
    return Pattern(tomllib.loads(text), toml=True, envelope=ENVELOPE)


@pytest.mark.parametrize(("pattern", "meets", "misses", "refused"), table("patterns"))
def test_patterns_meet_what_the_page_says(pattern: str, meets: str, misses: str, refused: str) -> None:
    """Each row holds: what meets the pattern, what does not, and what is no pattern."""
    one = compiled(code(pattern))

    assert one.meets(json.loads(code(meets)), AROUND)
    assert not misses or not one.meets(json.loads(code(misses)), AROUND)
    with pytest.raises(ConfigError):
        compiled(code(refused))


def test_every_operator_has_its_row() -> None:
    """The table knows each operator."""
    written = " ".join(row[0] for row in table("patterns"))
    assert set() == {name for name in OPERATORS if f"{{ {name} = " not in written}


@pytest.mark.parametrize(("template", "data", "result"), table("templates"))
def test_templates_become_what_the_page_says(template: str, data: str, result: str) -> None:
    """Each row holds: the value, or why there is none, when the file is read or when the call is due."""
    body = json.loads(code(data)) if data else None
    try:
        found = f"`{json.dumps(fill(code(template), lambda path: at(body, path)), ensure_ascii=False)}`"
    except Unfit as error:
        found = f"dead: {error}"
    except ValueError as error:
        found = f"at load: {error}"
    assert result == found


@pytest.mark.parametrize(
    "block", [one for one in blocks(PAGE, "toml") if one.partition("\n")[0].endswith("rules.toml")]
)
def test_every_file_of_the_page_is_right(block: str, tmp_path: Path) -> None:
    """What the page shows is what relay takes."""
    file = tmp_path / "rules.toml"
    file.write_text(block)
    assert load(file, {}, secrets=False).rules
