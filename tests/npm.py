"""Where is what comes from npm?  In the folder that a variable names; `.ci/run` fills it."""

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PLACE = os.environ.get("RELAY_TEST_NODE", "")

EXAMPLES = Path(PLACE, "node_modules/@octokit/webhooks-examples/api.github.com/index.json")

OCTOKIT = pytest.mark.skipif(
    not PLACE or not shutil.which("node"), reason="no node, or RELAY_TEST_NODE names no folder with octokit"
)

GITHUBS = pytest.mark.skipif(not PLACE, reason="RELAY_TEST_NODE names no folder with GitHub's examples")


@cache
def examples() -> dict[str, list[Any]]:
    """Return GitHub's own example payloads by the name of their event."""
    return {one["name"]: one["examples"] for one in json.loads(EXAMPLES.read_bytes())}
