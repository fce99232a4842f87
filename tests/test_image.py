"""Would the image run?  No engine is needed: the Dockerfile is read, and its steps are taken here."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from time import monotonic, sleep

import pytest
from rulesfiles import ENVIRON

ROOT = Path(__file__).parent.parent
LOCK = ROOT / ".ci/lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHER = 10001
"""Whom the image runs as; any user without rights will do."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of the Dockerfile."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Its list in JSON, or else what stands between spaces."""
        return list(json.loads(self.rest)) if self.rest.startswith("[") else self.rest.split()


def stages() -> list[list[Step]]:
    """Read the Dockerfile: the steps of each stage."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    steps = [Step(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]
    starts = [number for number, step in enumerate(steps) if step.word == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


BUILD, IMAGE = stages()


def one(word: str) -> Step:
    """Return the only instruction of its kind in the image."""
    (step,) = [step for step in IMAGE if step.word == word]
    return step


def settings() -> dict[str, str]:
    """Return what ENV sets."""
    return dict(word.split("=", 1) for word in one("ENV").words)


# -- what can be read --


def test_nobody_special_runs_it() -> None:
    """The user is a number other than root's, so that Kubernetes' runAsNonRoot can tell."""
    assert f"{OTHER}:{OTHER}" == one("USER").rest
    assert f"-o {OTHER} -g {OTHER} /data" in one("RUN").rest


def test_it_serves_the_world_from_volumes() -> None:
    """It listens on all addresses, and rules and database lie in volumes."""
    assert ["relay", "serve", "--host", "0.0.0.0"] == one("ENTRYPOINT").words + one("CMD").words
    assert one("EXPOSE").rest == settings()["RELAY_PORT"]
    for name in ("RELAY_RULES", "RELAY_DB"):
        place = "/" + settings()[name].removeprefix("sqlite:///").lstrip("/")
        assert str(Path(place).parent) in one("VOLUME").words


def test_its_python_is_one_that_relay_supports() -> None:
    """Both stages have the same base, of a version that pyproject.toml allows."""
    bases = {stage[0].words[0] for stage in (BUILD, IMAGE)}
    (found,) = [re.fullmatch(r"python:3\.(\d+)-slim", base) for base in bases]

    assert found is not None
    assert int(PROJECT["requires-python"].removeprefix(">=3.")) <= int(found[1]) <= 14


def copied() -> Iterator[tuple[str, str]]:
    """Yield what is copied from the checkout, and where to."""
    for step in (*BUILD, *IMAGE):
        if step.word == "COPY" and not step.rest.startswith("--from="):
            *sources, target = step.words
            yield from ((source, target) for source in sources)


def test_everything_else_is_left_out_of_the_build() -> None:
    """.dockerignore lets through what is copied, and nothing that is not."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines

    assert {source for source, _ in copied()} == {line[1:] for line in lines if line.startswith("!")}


def test_the_lock_has_names_versions_and_hashes_only() -> None:
    """Each library stands with one version and its hashes; no address, no option."""
    text = LOCK.read_text()
    pinned = re.sub(r" \\\n    --hash=sha256:[0-9a-f]{64}", " #", text)

    assert "://" not in text
    assert [] == [
        line for line in pinned.splitlines() if not re.fullmatch(r"[a-z0-9-]+==[^ ]+( ;.*)?( #)+", line)
    ]


def test_the_lock_has_what_relay_needs() -> None:
    """Each dependency of pyproject.toml is in the lock."""
    needed = {re.split(r"[<>=\[]", one)[0] for one in PROJECT["dependencies"]}

    assert needed <= set(re.findall(r"^([a-z0-9-]+)==", LOCK.read_text(), re.MULTILINE))


# -- what can be run --


def runs(python: str, user: int) -> bool:
    """Say if *user* can run *python*, and if it is new enough."""
    code = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([python, "-c", code], check=False, user=user, group=user, extra_groups=[])
    except OSError:
        return False
    return done.returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The image's tree, in a folder."""

    root: Path

    def real(self, text: str) -> str:
        """Write what the Dockerfile says of the image's places so that it is true of the folder."""
        return re.sub(r"(?<![\w.])/(opt/relay|etc/relay|data)\b", rf"{self.root}/\1", text)

    def environ(self, port: int) -> dict[str, str]:
        """Return the image's variables, and the secrets that rules.toml names."""
        path = self.real(settings()["PATH"]).replace("$PATH", "/usr/bin:/bin")
        own = {name: self.real(value) for name, value in settings().items()}
        return ENVIRON | own | {"PATH": path, "RELAY_PORT": str(port)}


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    """Take the steps of the build, in a folder that every user can read."""
    if os.geteuid():
        pytest.skip("only root can run relay as another user")
    base = str(Path(sys.base_prefix) / "bin" / "python3")
    python = next((one for one in (base, "/usr/bin/python3") if runs(one, OTHER)), None)
    if python is None:
        pytest.skip("no Python that another user than root may run")
    root = Path(tempfile.mkdtemp(prefix="relay-image-"))
    try:
        root.chmod(0o755)
        tree = Installed(root=root)
        _build(tree, python, base)
        yield tree
    finally:
        shutil.rmtree(root)


def _build(tree: Installed, python: str, pip: str) -> None:
    """Run each COPY and RUN of the build, in a context of only what is copied; then what the image adds."""
    context, tools = tree.root / "src", tree.root / "tools"
    for folder in (context, tools, tree.root / "opt", tree.root / "etc/relay/packages", tree.root / "data"):
        folder.mkdir(parents=True)
    os.chown(tree.root / "data", OTHER, OTHER)
    shutil.copy(ROOT / "rules.toml", tree.root / "etc/relay/rules.toml")
    for name, command in (("python", python), ("pip", f"{pip} -m pip")):
        (tools / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tools / name).chmod(0o755)
    for step in BUILD:
        if step.word == "COPY":
            *sources, target = step.words
            for source in sources:
                place = context / target if len(sources) == 1 else context / target / source
                place.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, place)
        elif step.word == "RUN":
            done = subprocess.run(
                # The image keeps no cache; here it saves a minute.
                ["sh", "-c", tree.real(step.rest).replace("--no-cache-dir ", "")],
                cwd=context,
                env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert 0 == done.returncode, done.stdout + done.stderr
    shutil.rmtree(context)


def healthy(tree: Installed, port: int) -> bool:
    """Take the image's health check."""
    command = json.loads(one("HEALTHCHECK").rest.partition(" CMD ")[2])
    assert "'/readyz'" in command[-1]
    command[0] = shutil.which(command[0], path=tree.environ(port)["PATH"])
    return subprocess.run(command, env=tree.environ(port), check=False, capture_output=True).returncode == 0


def test_it_runs_as_another_user_on_a_tree_it_can_not_write(installed: Installed) -> None:
    """The entry point starts, the health check sees it ready, and SIGTERM ends it with 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert not healthy(installed, port)
    entry = one("ENTRYPOINT").words + one("CMD").words
    with subprocess.Popen(
        [str(installed.root / "opt/relay/bin" / entry[0]), *entry[1:]],
        cwd="/",
        env=installed.environ(port),
        user=OTHER,
        group=OTHER,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            give_up = monotonic() + 30
            while (
                not (ready := healthy(installed, port)) and process.poll() is None and monotonic() < give_up
            ):
                sleep(0.1)
        finally:
            process.send_signal(SIGTERM)
            _, said = process.communicate(timeout=30)

    assert (True, 0) == (ready, process.returncode), said
    assert {"relay.db", "relay.db.lock"} == {file.name for file in (installed.root / "data").iterdir()}
    assert {OTHER} == {file.stat().st_uid for file in (installed.root / "data").iterdir()}
    theirs = [file for file in (installed.root / "opt").rglob("*") if file.lstat().st_uid == OTHER]
    assert [] == theirs


def test_another_user_can_not_change_it(installed: Installed) -> None:
    """Neither the code nor the rules can be written by whom the image runs as."""
    trial = "import os, sys; sys.exit(any(os.access(one, os.W_OK) for one in sys.argv[1:]))"
    places = [installed.root / "opt/relay", installed.root / "etc/relay/rules.toml"]
    places += (installed.root / "opt/relay").rglob("relay")
    done = subprocess.run(
        [str(installed.root / "opt/relay/bin/python"), "-c", trial, *map(str, places)],
        user=OTHER, group=OTHER, extra_groups=[], check=False,
    )  # fmt: skip

    assert 0 == done.returncode
