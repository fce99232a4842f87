"""What does a TOML document say, and where?  Files in layers, and problems that name their place."""

import datetime as dt
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from relay.condition import near, nearest
from relay.errors import Problem
from relay.place import Path, line, places, written

DEEPEST: Final = 64
"""Levels that a document may nest: more is a mistake, or an attack on our recursion."""

UNKNOWN: Final = "unknown key"
DATE: Final = "a date or time can't stand here"

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file, or the part of it under *root*."""

    file: str  #: as shown to people
    data: dict[str, Any]
    found: Mapping[Path, int] = field(repr=False)
    root: Path = ()

    def part(self, *root: str, keys: Iterable[str] | None = None) -> "Layer | None":
        """Return the table at *root*, only its *keys* if they are given; None where there is none."""
        here: Any = self.data
        for step in root:
            here = here.get(step) if isinstance(here, dict) else None
        if not isinstance(here, dict):
            return None
        data = here if keys is None else {key: here[key] for key in keys if key in here}
        return Layer(file=self.file, data=data, found=self.found, root=(*self.root, *root))


def read(path: FilePath, shown: str, problems: list[Problem], where: str = "") -> tuple[Layer | None, bytes]:
    """Read one file; what is wrong with it as a whole is added to *problems*; *where* is a way to find it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        hint = where if isinstance(error, FileNotFoundError) else ""
        problems.append(Problem(file=shown, what=f"can't be read: {error.strerror}", hint=hint))
        return None, b""
    try:
        text = raw.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        at = error.object.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8: the byte {error.object[error.start]:#04x} can't stand here"
        problems.append(Problem(file=shown, line=at, what=what))
        return None, raw
    try:
        data = tomllib.loads(text)
        layer = Layer(file=shown, data=data, found=places(text))
    except tomllib.TOMLDecodeError as error:
        problems.append(_not_toml(shown, text, str(error)))
        return None, raw
    except RecursionError:
        problems.append(Problem(file=shown, what="nested too deeply"))
        return None, raw
    if _depth(data) > DEEPEST:
        problems.append(Problem(file=shown, what=f"nested deeper than {DEEPEST} levels"))
        return None, raw
    document = Document([layer], problems)
    return Layer(file=shown, data=document.plain(data, ()), found=layer.found), raw


_SLIPS: Final = (
    ("Cannot overwrite a value", "the key stands twice, or [rule] where each is [[rule]]"),
    ("Cannot declare", "the table stands twice, or [rule] where each is [[rule]]"),
    ("Invalid value", 'text stands in quotes: "…"'),
    ("Illegal character '\\n'", "a quote is missing on this line"),
    ("Unterminated string", "a quote is missing, here or further up"),
    ("Expected \"'", "a quote is missing, here or further up"),
    ("Expected newline", "a quote or bracket too few, or too many?"),
    ("Unescaped", r"write \\ for \, or the text in single quotes"),
    ("Unclosed array", "a comma or ] is missing"),
    ("Invalid initial character", "what stands in braces stands on one line, without a comma at its end"),
    ("Unclosed inline table", "a comma or } is missing, or it goes on in the next line"),
)
"""How tomllib's messages begin, and what was probably done."""

_WORDS: Final = (
    (r"=\s*(?:null|None|nil)\b", "TOML has no null: leave it out, or, in a pattern, { is-null = true }"),
    (r"=\s*(?:True|False|TRUE|FALSE|yes|no|on|off)\b", "it is true or false, in small letters"),
    (r"=\s*(?:#.*)?$", "a value is missing"),
    (r"=\s*[+-]?0\d", "a number does not begin with 0"),
    (r"^\s*[\w-]+\s*:", 'key = "value", with an equals sign'),
    (r"^\s*\[\[[^\]]*\](?!\])", "it ends in ]]"),
)
"""What a line that is no TOML looks like, and the way out."""

_TUPLE: Final = re.compile(r"[', ]+")


def _not_toml(shown: str, text: str, message: str) -> Problem:
    """Take the line out of tomllib's message, which has it since it has errors."""
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
    what, at = (match[1], match[2]) if match else (message, None)
    # What tomllib quotes may be part of a secret that somebody wrote here.
    what = re.sub(r"""(?:'.{2,}'|".{2,}")$""", "", what, flags=re.DOTALL).strip()
    what = re.sub(r"\(((?:'[\w-]+',? ?)+)\)", lambda names: f"[{_TUPLE.sub('.', names[1]).strip('.')}]", what)
    number = int(at) if at else text.count("\n") + 1
    written = text.split("\n")[number - 1]
    hints = [hint for words, hint in _WORDS if re.search(words, written)]
    hints += [hint for start, hint in _SLIPS if message.startswith(start)]
    return Problem(
        file=shown,
        line=number,
        what=f"not TOML: {what[:1].lower()}{what[1:]}",
        hint=next(iter(hints), ""),
    )


def _depth(data: object) -> int:
    """Count the levels, without recursion."""
    deepest, rows = 0, [data]
    while rows:
        deepest += 1
        tables = (
            row.values() if isinstance(row, dict) else row for row in rows if isinstance(row, dict | list)
        )
        rows = [item for table in tables for item in table]
    return deepest


def merged(below: Any, above: Any) -> Any:
    """Lay *above* over *below*: tables are joined key by key, anything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


class Document:
    """Layers laid over each other, and what is wrong with them."""

    def __init__(self, layers: Sequence[Layer], problems: list[Problem]) -> None:
        self.layers = layers
        self.problems = problems
        self.data: dict[str, Any] = {}
        for layer in layers:
            self.data = merged(self.data, layer.data)
        self._fits: dict[tuple[type[BaseModel], Path], Any] = {}

    def at(self, path: Path) -> Any:
        """Return what stands at *path*, which is there; None if it is not."""
        here: Any = self.data
        for step in path:
            try:
                here = here[step]
            except (KeyError, IndexError, TypeError):
                return None
        return here

    def keys(self, *path: str) -> list[str]:
        """Name what stands in the table at *path*; nothing if there is no table."""
        found = self.at(path)
        return list(found) if isinstance(found, dict) else []

    def place(self, path: Path) -> tuple[str, int | None, str]:
        """Return the file, the line and the key, as written, of *path*."""
        layer = max(reversed(self.layers), key=lambda layer: _reach(layer, path))
        whole = (*layer.root, *path)
        return layer.file, line(layer.found, whole), written(whole)

    def wrong(self, path: Path, what: str, hint: str = "", *, below: str = "") -> None:
        """Note a problem at *path*; *below* is a key under it that only its reader knows."""
        file, at, key = self.place(path)
        below = f"{'' if below.startswith('[') or not key else '.'}{below}" if below else ""
        self.problems.append(Problem(file=file, line=at, key=key + below, what=what, hint=hint))

    def fit(self, model: type[Model], path: Path = (), *, quiet: bool = False) -> Model | None:
        """Return the table at *path* as *model*, or note all that is wrong with it and return None."""
        # Thousands of rules ask for the same few actions.
        if (found := self._fits.get((model, path))) is not None:
            return cast(Model, found)
        try:
            fits = self._fits[model, path] = model.model_validate(self.at(path))
        except ValidationError as error:
            details = error.errors(include_url=False)
        else:
            return fits
        for detail in [] if quiet else details:
            here = (*path, *detail["loc"])
            what, hint = _sentence(model, detail, shy=self._secret(here))
            self.wrong(here, what, hint)
        return None

    def plain(self, value: Any, path: Path) -> Any:
        """Return *value* without what JSON can't say; each such value is a problem."""
        match value:
            case dict():
                return {key: self.plain(item, (*path, key)) for key, item in value.items()}
            case list():
                return [self.plain(item, (*path, number)) for number, item in enumerate(value)]
            case dt.date() | dt.time():
                self.wrong(path, DATE, "put it in quotes")
                return str(value)
            case float() if not math.isfinite(value):
                self.wrong(path, "expected a number, got nan or inf")
                return 1.0
            case int() if not -(1 << 63) <= value < 1 << 63:
                self.wrong(path, "a number beyond 64 bits", "put it in quotes")
                return 1
            case _:
                return value

    def _secret(self, path: Path) -> bool:
        """Say if a value at *path* may be a secret, which no message must repeat."""
        layer = max(reversed(self.layers), key=lambda layer: _reach(layer, path))
        match (*layer.root, *path):
            case ("source", _, "secrets", *_):
                return True
            case ("provider", _, str(key), *_):
                return key not in {"limit", "timeouts", "tries", "allow_http", "allow_networks", "storm"}
            case _:
                return False


def _reach(layer: Layer, path: Path) -> int:
    """Return how much of *path* was written in *layer*."""
    whole = (*layer.root, *path)
    return next((end for end in range(len(whole), 0, -1) if whole[:end] in layer.found), 0) - len(layer.root)


_EXPECTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "string_too_short": "some text",
    "too_short": "one or more",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than_equal": "{le:.15g} or less",
    "literal_error": "{expected}",
}


def _sentence(model: type[BaseModel], detail: ErrorDetails, *, shy: bool) -> tuple[str, str]:
    """Say an error of pydantic as we say it: what was expected, what was found, and a way out."""
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    match kind:
        case "missing":
            owner = _owner(model, detail["loc"])
            name = detail["loc"][-1]
            field_ = next((f for key, f in owner.items() if key == name), None)
            return "missing", (field_.description or "") if field_ else ""
        case "extra_forbidden":
            owner, name = _owner(model, detail["loc"]), str(detail["loc"][-1])
            hint = near(name, owner)
            return UNKNOWN, hint if hint.startswith("did") else _further_in(owner, name) or hint
        case "value_error":
            what = str(context["error"])
        case _:
            said = dict(context)
            if "expected" in said:
                said["expected"] = str(said["expected"]).replace("True", "true").replace("'' or ", "")
            what = "expected " + _EXPECTED.get(kind, "something else").format(**said)
    return (what if shy else f"{what}, got {_say(found)}"), "" if shy else _way_out(kind, found, context)


def _way_out(kind: str, found: object, context: Mapping[str, Any]) -> str:
    """Return a hint for a value that is nearly right."""
    if kind == "literal_error" and isinstance(found, str):
        known = re.findall(r"'([^']+)'", str(context["expected"]))
        return f"did you mean '{close}'?" if (close := nearest(found, known)) else ""
    if kind == "list_type" and isinstance(found, dict):
        return "each stands below [[…]], with two brackets, or in a list"
    return ""


def _further_in(owner: Mapping[str, Any], name: str) -> str:
    """Return a hint for a key that stands one table too far out."""
    for key, field_ in owner.items():
        inner = [one for one in (field_.annotation, *get_args(field_.annotation)) if _is_model(one)]
        if any(name in _fields(one) for one in inner):
            return f"did you mean '{key}.{name}'?"
    return ""


def _owner(model: type[BaseModel], loc: Sequence[str | int]) -> dict[str, Any]:
    """Return the known keys of the table that the last step of *loc* stands in."""
    here: Any = model
    for step in loc[:-1]:
        here = _fields(here)[str(step)].annotation if _is_model(here) else get_args(here)[-1]
        if get_origin(here) is Annotated:
            here = get_args(here)[0]
        if get_origin(here) in {Union, UnionType}:
            here = next(one for one in get_args(here) if _is_model(one) or get_args(one))
    return _fields(here)


def _is_model(word: object) -> bool:
    return isinstance(word, type) and issubclass(word, BaseModel)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field_.alias or name: field_ for name, field_ in model.model_fields.items()}


def _say(value: object) -> str:
    match value:
        case dict():
            return "a table" if value else "an empty table"
        case list():
            return "a list" if value else "an empty list"
        case bool():
            return "true" if value else "false"
        case str() if not value:
            return "empty text"
        case str():
            return repr(value if len(value) <= 40 else value[:39] + "…")
        case _:
            return str(value)
