"""How is a signature spelt?  The same bytes have one spelling, and no other is read."""

import base64
import binascii

from relay.source import Encoding


def read(text: str, encoding: Encoding) -> bytes | None:
    """
    Return the bytes that *text* spells; None unless it is the one spelling that `write` makes of them.

    Base64 has bits to spare at its end, so that one signature could be spelt in several ways, each a new one
    to whoever knows duplicates by it. Only ``any-case-hex`` is free: some senders write large letters.
    """
    try:
        match encoding:
            case "hex" | "any-case-hex":
                raw = binascii.unhexlify(text)
            case "base64":
                raw = base64.b64decode(text, validate=True)
            case "base64url":
                raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw if (text.lower() if encoding == "any-case-hex" else text) == write(raw, encoding) else None


def write(raw: bytes, encoding: Encoding) -> str:
    """Spell *raw*: hex in small letters, base64 with its padding (RFC 4648 4), base64url without (5)."""
    match encoding:
        case "hex" | "any-case-hex":
            return raw.hex()
        case "base64":
            return base64.b64encode(raw).decode()
        case "base64url":
            return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
