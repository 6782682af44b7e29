"""F9: what the Hub may answer to a push, from a Hub on the loopback address (tests/hub_server.py)."""

import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .starts import ROOT, Start, new_python
from .tiny import Bench, Trial, copied, tree


TOKEN = "hf_loopbackToken"  # noqa: S105 -- of no account
SECONDS = 60
NOT_PUSHED = 4
CLOSED = "http://127.0.0.1:9"  # a port where nothing listens
ALWAYS = 100
FAULTS = {  # what happens to which requests, how often
    "503 twice, then well": ("create", 503, 2),
    "401": ("create", 401, ALWAYS),
    "half of it, then 412": ("commit", 412, 1),
    "no token": (None, None, 0),
    "403": ("create", 403, ALWAYS),
    "404": ("commit", 404, ALWAYS),
    "409": ("commit", 409, ALWAYS),
    "429, then well": ("create", 429, 1),
    "500 always": ("create", 500, ALWAYS),
    "no answer, then well": ("create", 0, 1),
    "refused connections": (None, None, 0),
    "slow": (None, None, 0),
}


def hub_faults(bench: Bench, count: int) -> Iterator[Trial]:
    """F9: within a minute, one line, with the command that tries again; it works when the Hub does."""
    sys.path.append(str(ROOT / "tests"))
    export = bench.reference().output_dir / "export"
    with ThreadPoolExecutor(2) as pool:  # most of the time they wait
        yield from pool.map(lambda fault: Trial(fault, pushed(bench, export, fault)), list(FAULTS)[:count])


def pushed(bench: Bench, export: Path, fault: str) -> str | None:
    from hub_server import HubServer

    class SlowHub(HubServer):
        def fault(self, path):
            time.sleep(2)
            return super().fault(path)

    folder = copied(export, bench.new("F9") / "my export")
    home = folder.parent
    place, status, times = FAULTS[fault]
    with (SlowHub if fault == "slow" else HubServer)(token=TOKEN) as hub:
        if place:
            hub.fail_next({"create": "/api/repos/create/", "commit": "/commit/"}[place], status=status, times=times)
        before = tree(folder)
        argv = ["push", str(folder), "--hub_model_id", "tester/tiny"]
        endpoint = CLOSED if fault == "refused connections" else hub.url
        start = push(argv, home / "first", endpoint, "" if fault == "no token" else TOKEN)
        seconds = time.monotonic() - start.began
        passes = fault.endswith("then well") or fault == "slow"
        if start.code != (0 if passes else NOT_PUSHED):
            return f"ends with {start.code}: {start.last_line()}"
        if seconds > SECONDS:
            return f"took {seconds:.0f} s"
        hub.faults.clear()
        if not passes:
            line = start.said().strip()
            told, _, again = line.partition("; try again: spanbert ")
            if "\n" in line or not told.startswith("error: push failed: ") or f"is safe in {folder}" not in told:
                return f"says {line!r}"
            start = push(shlex.split(again), home / "second", hub.url, TOKEN)
            if start.code:
                return f"the command that it prints ends with {start.code}: {start.last_line()}"
        after = tree(folder)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        if changed - {"README.md", "results.json"}:  # which name the repository from then on
            return f"the export changed: {sorted(changed)}"
        missing = after.keys() - hub.repositories["tester/tiny"].files().keys()
        if missing:
            return f"the Hub lacks {sorted(missing)}"
    with_token = [path for path in home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    return f"the token is in {with_token[0]}" if with_token else None


def push(argv: list[str], said: Path, endpoint: str, token: str) -> Start:
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(said.parent / "home"),
        "HF_TOKEN": token,
    }
    start = new_python(["-m", "modeling_spanbert", *argv], said, settings)
    start.wait()
    return start
