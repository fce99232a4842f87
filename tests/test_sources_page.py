"""Is docs/sources.md what the presets say?  `python tests/test_sources_page.py` writes it anew."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from presets import NAMES, told
from sourcespage import anchor, page

from relay.load import load

PAGE: Final = Path(__file__).parent.parent / "docs" / "sources.md"


def rows() -> list[str]:
    """Return the lines of the overview."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith("| [`")]


def sections() -> dict[str, str]:
    """Return the sections by their headings."""
    found = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_the_page_is_what_the_presets_say() -> None:
    """Nobody has to remember to change it twice."""
    assert page() == PAGE.read_text()


def test_every_preset_has_its_line() -> None:
    """One, with a link to its section and one to the provider's own page, over https."""
    found = [
        re.match(r"\| \[`([a-z0-9-]+)`\]\(#([^)]+)\) \| \[[^\]]+\]\((https://[^)\s]+)\) \|", row)
        for row in rows()
    ]

    assert all(found)
    assert sorted(NAMES) == sorted(one[1] for one in found if one)
    headings = {anchor(title) for title in sections()}
    assert len(NAMES) == len(headings)
    assert set() == {one[2] for one in found if one} - headings


@pytest.mark.parametrize("name", NAMES)
def test_every_line_says_how_it_proves_and_what_that_is_worth(name: str) -> None:
    """A line has all its cells, and the trust is one of the two that a proof can give."""
    (row,) = [row for row in rows() if row.startswith(f"| [`{name}`]")]
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]

    assert 6 == len(cells)
    assert all(cells)
    assert set(cells[3].split(" or ")) <= {"verified", "authenticated"}


@pytest.mark.parametrize("name", NAMES)
def test_every_section_says_what_to_do(name: str) -> None:
    """Each step at the provider, how to try it, each sample, and what bites; no link leads elsewhere."""
    text = sections()[told(name).title]
    plain = " ".join(text.split())

    assert [] == [step for step in told(name).setup if " ".join(step.split()) not in plain]
    assert " ".join(told(name).notes.split()) in plain
    assert f"`relay send {name}" in text
    assert [] == [one.name for one in told(name).samples if f"`{one.name}`" not in plain]
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [told(name).docs, f"../relay/sources/{name}.toml"] == links


def test_what_is_pasted_loads(tmp_path: Path) -> None:
    """All tables of the page together are a rules file in which nothing is wrong."""
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "rules.toml").write_text("\n".join(blocks))

    assert set(NAMES) == set(tomllib.loads("\n".join(blocks))["source"])
    assert set(NAMES) == set(load(tmp_path / "rules.toml", {}, secrets=False).sources)


if __name__ == "__main__":
    PAGE.write_text(page())
