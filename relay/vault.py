"""Where is a secret found?  In a variable or a file: never in the operator's files, never in a message."""

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from secrets import token_hex
from typing import Final

from relay.document import Document
from relay.place import Path
from relay.secret import Secret

HOW: Final = "use env:NAME or file:/path"

_NEARLY: Final = (
    ("env:", "expected the name of a variable", "letters, digits and _, as in env:WRITER_API_KEY"),
    ("file:", "expected a whole path", "as in file:/run/secrets/writer"),
)
"""How a secret's place begins, and what must follow; what did is not repeated: it may be the secret."""


def find(doc: Document, path: Path, text: str, environ: Mapping[str, str] | None) -> Secret | None:
    """Find the secret that *text*, at *path*, names; without *environ* it is a fresh random one."""
    match = re.fullmatch(r"env:([A-Za-z_][A-Za-z0-9_]*)|file:(/[^\x00]*)", text)
    if match is None:
        what, hint = next(
            (row for start, *row in _NEARLY if text.startswith(start)),
            ("a secret is never written in the file", HOW),
        )
        doc.wrong(path, what, hint)
        return None
    variable, file = match.groups()
    if environ is None:
        return Secret(token_hex(16), text)
    if variable:
        value, flaw = environ.get(variable, ""), "not set" if variable not in environ else "empty"
    else:
        value, flaw = _contents(FilePath(file))
    if not value:
        doc.wrong(path, f"{variable or file} is {flaw}")
        return None
    if re.search(r"[\ud800-\udfff]", value):  # so Python reads a variable's odd bytes
        doc.wrong(path, f"{variable or file} is not UTF-8")
        return None
    if re.search(r"[\x00-\x1f\x7f]", value):
        doc.wrong(path, f"{variable or file} holds a control character", "a line end in the middle?")
        return None
    return Secret(value, text)


def _contents(file: FilePath) -> tuple[str, str]:
    """Return a secret file's text without the line end that editors add, and what is wrong if it is empty."""
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r"), "empty"
    except OSError as error:
        return "", f"not readable: {error.strerror}"
    except UnicodeDecodeError:
        return "", "not UTF-8"
