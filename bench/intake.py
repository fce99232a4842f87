"""
How many events a second does relay acknowledge, against the least that could be called durable?

Each server runs in a process of its own on this machine and answers the same signed posts:

    relay   `relay serve` with our rules.toml: verify, read, match, plan, group commit, then 202
    bare    a Starlette app that only inserts the body with sqlite3 and commits (WAL, FULL), then 202

Prints one line a run and the ratio of the medians:  python bench/intake.py [--events 4000] [--senders 64]
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).parents[1]
SECRET = "a secret for the bench only"
BARE = """
import sqlite3, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
db = sqlite3.connect("bare.db", isolation_level=None, check_same_thread=False)
db.execute("PRAGMA journal_mode=WAL"); db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, body BLOB)")
async def receive(request):
    db.execute("INSERT INTO event (body) VALUES (?)", (await request.body(),))
    return JSONResponse({"event": 1}, 202)
app = Starlette(routes=[Route("/hooks/writer", receive, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="error", access_log=False)
"""


def main() -> None:
    """Run both servers in turn, three times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--senders", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    rates: dict[str, list[float]] = {"relay": [], "bare": []}
    for run in range(asked.runs):
        for name, found in rates.items():
            found.append(measure(name, asked.events, asked.senders))
            print(f"run {run + 1}  {name:5}  {found[-1]:7.0f} events/s")
    relay, bare = (statistics.median(rates[name]) for name in ("relay", "bare"))
    print(f"median  relay {relay:.0f}/s, bare {bare:.0f}/s: ratio {relay / bare:.2f}")


def measure(name: str, events: int, senders: int) -> float:
    """Start a server, post to it, stop it; return acknowledged events a second."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        environ = {**os.environ, "WRITER_HOOK_SECRET": SECRET}
        if name == "relay":
            rules = (TOP / "rules.toml").read_text().split("[source.flatfile]")[0]
            Path(folder, "rules.toml").write_text(rules)
            command = [sys.executable, "-m", "relay", "serve", "--port", str(port), "--log-level", "error"]
        else:
            command = [sys.executable, "-c", BARE, str(port)]
        process = subprocess.Popen(command, cwd=folder, env=environ)
        try:
            wait_for(port)
            began = time.perf_counter()
            asyncio.run(post(port, events, senders))
            return events / (time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def wait_for(port: int) -> None:
    """Wait until something listens."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not start")


async def post(port: int, events: int, senders: int) -> None:
    """Post so many different events over so many kept-alive connections."""
    numbers = iter(range(events))

    async def sender() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = json.dumps(
                {"type": "file.uploaded", "file_id": f"{number:032x}", "pad": "x" * 1000}
            ).encode()
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            head = f"POST /hooks/writer HTTP/1.1\r\nhost: x\r\nx-signature-256: sha256={signature}\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 202"), answer
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(sender() for _ in range(senders)))


if __name__ == "__main__":
    main()
