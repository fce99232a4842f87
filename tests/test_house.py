"""Is the house in order?  Floors, sentences, sizes, and nothing that belongs to another place."""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "relay").rglob("*.py"))

FLOORS = {
    "words": "errors event secret reach provider source call case rule deed clock",
    "thought": "place condition moment match index body filter template nested form cloud resource unpack"
    " greet verify mint sign render gate trial look judge listing hours plan explain window"
    " follow people storm",
    "reading": "config log document schema inner vault given way preset shape action compile policy calling"
    " ends load probe sample vain",
    "keeping": "engine store keep",
    "moving": "wire send ring report reload bucket intake replay proof errand watch over work",
    "faces": "public web demo cli app serve __main__",
}
"""docs/house.md in short: each module by its first name, from the ground up."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS.values()) for room in rooms.split()}

TOP = {"pyproject.toml", "README.md", "relay", "rules.toml", "tests", "Dockerfile", "docs", "bench"}
"""The house's front: what else stands at the top is hidden from a visitor by its dot."""

LONGEST = 400


def module(file: Path) -> str:
    """Return a file's first name inside relay: ``relay/web/hooks.py`` is ``web``."""
    return file.relative_to(ROOT / "relay").parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and first name of every import of relay's own, also of those inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        assert not getattr(node, "level", 0), f"{file}:{node.lineno}: a relative import"
        for alias in node.names:
            house, _, rest = f"{start}{alias.name}".partition(".")
            if house == "relay" and rest != "__version__":
                yield node.lineno, rest.partition(".")[0]


def public(
    body: Iterable[ast.stmt],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the classes, functions and methods that others may use."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def tracked() -> list[str]:
    """Name the files that belong to the repository."""
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if found.returncode:
        pytest.skip("no git repository: an unpacked archive")
    return [name for name in found.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down(file: Path) -> None:
    """A module imports from its own floor and from those below; each module stands on a floor."""
    mine = module(file)
    if mine == "__init__":
        assert [] == list(imports(file))
        return
    assert mine in FLOOR, f"{mine} stands on no floor: add it to FLOORS"

    up = [(line, name) for line, name in imports(file) if FLOOR[name] > FLOOR[mine]]

    assert [] == up


def test_no_room_imports_itself_in_a_ring() -> None:
    """On one floor, too, nothing imports what imports it: the modules can be read in an order."""
    needs = {
        name: {other for file in FILES if module(file) == name for _, other in imports(file)} - {name}
        for name in FLOOR
    }
    read: set[str] = set()
    while ready := {name for name, others in needs.items() if others <= read and name not in read}:
        read |= ready

    assert set(FLOOR) == read


def test_every_name_on_the_floors_is_there() -> None:
    """The list of floors names no module that has gone."""
    assert set(FLOOR) == {module(file) for file in FILES} - {"__init__"}


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("httpx", {"wire", "send"}),
        ("aiohttp", {"wire"}),
        ("apsw", {"engine"}),
        ("re2", {"match"}),
        ("psycopg", {"engine"}),
        ("uvicorn", {"serve", "web", "demo"}),
        ("starlette", {"web", "app", "demo"}),
        ("click", {"cli", "demo"}),
        ("pydantic", {"schema", "document"}),
    ],
)
def test_a_library_has_its_room(library: str, rooms: set[str]) -> None:
    """What comes from outside is spoken to in one place: it can be exchanged there."""
    users = {
        module(file)
        for file in FILES
        if re.search(rf"^\s*(import|from) {library}\b", file.read_text(), re.MULTILINE)
    }

    assert users <= rooms


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_everything_public_has_a_sentence(file: Path) -> None:
    """Every module, class and public function says what it is for."""
    tree = ast.parse(file.read_text())
    silent = [node.name for node in public(tree.body) if not ast.get_docstring(node)]

    assert [] == ([] if ast.get_docstring(tree) else ["the module"]) + silent


def test_no_file_is_long() -> None:
    """A file of more than 400 lines holds more than one thought."""
    lines = {
        name: (ROOT / name).read_bytes().count(b"\n")
        for name in tracked()
        if name.endswith((".py", ".sql", ".toml", ".sh"))
    }

    assert {} == {name: number for name, number in lines.items() if number > LONGEST}


FOREIGN = re.compile(
    r"https?://[^\s\"'<>)]*(?:/simple\b|pypi|pythonhosted|artifactory|nexus|mirror|proxy)[^\s\"'<>)]*"
    r"|--(?:extra-)?index-url|--registry"
    r"|/(?:home|Users|root|work|workspace|tmp/venv)/[\w.]+"
)
"""An address of a package registry, or a path that is there on one machine only."""


def test_nothing_names_another_place() -> None:
    """No file names a registry, or a folder of the machine that it was written on."""
    here = Path(__file__).name
    found = [
        f"{name}: {match[0]}"
        for name in tracked()
        if Path(name).name != here
        for match in FOREIGN.finditer((ROOT / name).read_text("utf-8", errors="replace"))
    ]

    assert [] == found


def test_the_net_for_other_places_is_no_dead_letter() -> None:
    """The pattern above finds what it should, and lets a provider's address pass."""
    slash = "/"
    assert FOREIGN.search(f"https://files.pythonhosted.org{slash}x")
    assert FOREIGN.search(f"{slash}work{slash}main")
    assert FOREIGN.search(f"{slash}root{slash}.cache")
    assert not FOREIGN.search("https://api.writer.com/v1/files")
    assert not FOREIGN.search("/var/lib/relay/relay.db")


def test_the_top_is_short() -> None:
    """A visitor sees what the house is at one glance."""
    assert {name.split("/")[0] for name in tracked() if not name.startswith(".")} <= TOP
