"""Small rules files for tests, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from relay.errors import ConfigError, Problem
from relay.load import load

ROOT = Path(__file__).parent.parent
PROVIDERS = ("docflow", "flatfile", "writer", "xpkg")

ENVIRON = {
    name: f"a-secret-for-{name.lower()}"
    for name in (
        *("WRITER_HOOK_SECRET", "FLATFILE_HOOK_TOKEN", "DOCFLOW_HOOK_TOKEN", "XPKG_HOOK_TOKEN"),
        *("WRITER_API_KEY", "FLATFILE_API_KEY", "DOCFLOW_APP_ID", "DOCFLOW_SECRET_CODE", "XPKG_TOKEN"),
    )
}

SMALL: dict[str, Any] = {
    "source": {"flatfile": {"preset": "flatfile", "secrets": ["env:FLATFILE_HOOK_TOKEN"]}},
    "provider": {"flatfile": {"token": "env:FLATFILE_API_KEY"}},
    "rule": [
        {
            "name": "retry",
            "from": "flatfile",
            "when": {"topic": "job:failed"},
            "call": "flatfile.retry",
            "with": {"job_id": "{context.jobId}"},
        }
    ],
}

EVERY_KNOB: dict[str, Any] = {
    "source": {
        "writer": {
            "preset": "writer",
            "secrets": "env:WRITER_HOOK_SECRET",
            "recovered": {"type": "file.well"},
        }
    },
    "provider": {
        "writer": {"token": "env:WRITER_API_KEY", "storm": {"cases": 5, "within": "30s", "rest": "5s"}}
    },
    "rule": [
        {
            "name": "retry",
            "from": ["writer", "files"],
            "when": {"type": "file.failed"},
            "call": "writer.retry",
            "with": {"file_id": "{file_id}"},
            "case": "{file_id}",
            "recovered": {"type": "file.completed"},
            "recover_within": "3h",
            "budget": {"retries": 4, "within": "2d", "wait": ["0s", "1m"]},
            "approve": {"when": {"size": [{"numeric": [">", 9]}]}, "within": "1h", "then": "reject"},
            "only": "Mon-Fri 08:00-18:00 Europe/Berlin",
            "batch": {"field": "file_ids", "max": 100, "wait": "2s"},
        }
    ],
    "watch": [{"name": "failed files", "call": "writer.failed_files", "every": "1m", "source": "files"}],
}


def write(folder: Path, document: dict[str, Any], name: str = "rules.toml") -> Path:
    """Write a document as TOML."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(tomli_w.dumps(document))
    return path


def with_source(**keys: Any) -> dict[str, Any]:
    """SMALL with one more source, `extra`."""
    return SMALL | {"source": SMALL["source"] | {"extra": keys}}


def with_rule(**keys: Any) -> dict[str, Any]:
    """SMALL with more keys for its rule."""
    return SMALL | {"rule": [SMALL["rule"][0] | keys]}


def with_provider(**keys: Any) -> dict[str, Any]:
    """SMALL with more keys for the provider flatfile."""
    return SMALL | {"provider": {"flatfile": SMALL["provider"]["flatfile"] | keys}}


def problems(path: Path, environ: dict[str, str] = ENVIRON, *, secrets: bool = True) -> tuple[Problem, ...]:
    """Load what can't be loaded, and return what is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ, secrets=secrets)
    return caught.value.problems
