"""What time is it?"""

import time
from datetime import UTC, datetime

from relay.event import Millis


def now_ms() -> Millis:
    """Return the wall clock as milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def rfc3339(instant: Millis | None) -> str | None:
    """Write an instant for people and JSON: ``2026-11-22T00:25:58.123Z`` (RFC 3339, UTC)."""
    if instant is None:
        return None
    return (
        datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
