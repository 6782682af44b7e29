"""F7: disks that are too small, a file size limit that comes and goes, and a folder that cannot be written."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .starts import Start
from .tiny import LONG, Bench, Left, Trial, moments, tree


DISK_FULL = 3


def full_disks(bench: Bench, count: int) -> Iterator[Trial]:
    """F7: file size limits that are set on the live process, and small file systems where these can be mounted."""
    cases = [
        limited_for_a_while,
        limited_to_the_end,
        limited_for_a_while,
        small_disk,
        small_disk,
        read_only,
        freed_meanwhile,
        limited_in_the_export,
    ]
    for case in cases[:count]:
        yield case(bench)


def limit_file_size(pid: int, size: int) -> None:
    """What `ulimit -f` does, on a process that is alive; a write beyond fails as on a full disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def struck(bench: Bench, output_dir: Path) -> Start:
    """A run that is limited at a random step, after its first checkpoint."""
    (start,) = bench.start(output_dir, **LONG)
    step = bench.rng.randrange(2, 12)
    for _ in moments(start):
        if len(Left(output_dir).metrics()) >= step and Left(output_dir).checkpoints():
            break
    # Less than a checkpoint's tensors, more than the lines of metrics.
    limit_file_size(start.pid, bench.rng.randrange(60_000, 300_000))
    return start


def limited_for_a_while(bench: Bench) -> Trial:
    reference, output_dir = bench.reference(**LONG), bench.new("F7")
    start = struck(bench, output_dir)
    for _ in moments(start):
        if "warning: no space left" in start.said():
            break
    limit_file_size(start.pid, resource.RLIM_INFINITY)
    start.wait()
    lost = f"ends with {start.code}: {start.last_line()}" if start.code else Left(output_dir).differs(reference)
    return Trial("files limited in size, freed meanwhile", lost)


def limited_to_the_end(bench: Bench) -> Trial:
    reference, output_dir = bench.reference(**LONG), bench.new("F7")
    start = struck(bench, output_dir)
    start.wait()
    lost = ended_full(start, output_dir) or bench.resumed(output_dir, reference, **LONG)
    return Trial("files limited in size to the end", lost)


def limited_in_the_export(bench: Bench) -> Trial:
    """All checkpoints are there, and the next start has only to export."""
    reference, output_dir = bench.reference(**LONG), bench.new("F7")
    (start,) = bench.start(output_dir, **LONG)
    for _ in moments(start, every=0.0005):
        if (output_dir / "results.json").exists():
            break
    limit_file_size(start.pid, bench.rng.randrange(20_000, 300_000))
    start.wait()
    lost = ended_full(start, output_dir) or bench.resumed(output_dir, reference, **LONG)
    return Trial("files limited in size in the export", lost)


def ended_full(start: Start, output_dir: Path) -> str | None:
    """Why this is not how a run ends whose last checkpoint did not fit, or None."""
    if start.code != DISK_FULL or Left(output_dir).status().get("state") != "disk_full":
        return f"ends with {start.code}: {start.last_line()}"
    if "no space" not in start.said() or "Traceback" in start.said():
        return f"does not say what is full: {start.last_line()}"
    if not Left(output_dir).checkpoints():
        return "no checkpoint is whole"
    return None


@contextmanager
def file_system(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory, at `folder`. Raises PermissionError where this user may not mount."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        raise PermissionError(f"mount: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def small_disk(bench: Bench) -> Trial:
    """Of a size at which something does not fit, sooner or later; then it grows and the run goes on."""
    reference, output_dir = bench.reference(**LONG), bench.new("F7")
    size = bench.rng.randrange(2_000_000, 6_000_000)
    what = "disk too small, larger before the next start"
    try:
        with file_system(output_dir, f"size={size}"):
            start = bench.run(output_dir, **LONG)
            lost = None
            if start.code == 0:
                return Trial(what, Left(output_dir).differs(reference, metrics=False))
            if start.code != DISK_FULL or "no space" not in start.said() or "Traceback" in start.said():
                lost = f"{size} bytes: ends with {start.code}: {start.last_line()}"
            remount(output_dir, "size=64m")
            return Trial(what, lost or resumed_with_gaps(bench, output_dir, reference))
    except PermissionError:
        return limited_to_the_end(bench)


def resumed_with_gaps(bench: Bench, output_dir: Path, reference: Left) -> str | None:
    """As `Bench.resumed`, but lines of metrics.jsonl may have been lost with the disk."""
    start = bench.run(output_dir, **LONG)
    if start.code:
        return f"the next start ends with {start.code}: {start.last_line()}"
    if [line for line in Left(output_dir).metrics() if line not in reference.metrics()]:
        return "other lines in metrics.jsonl"
    return Left(output_dir).differs(reference, metrics=False)


def freed_meanwhile(bench: Bench) -> Trial:
    reference, output_dir = bench.reference(**LONG), bench.new("F7")
    try:
        with file_system(output_dir, "size=3m"):
            (start,) = bench.start(output_dir, **LONG)
            for _ in moments(start):
                if "warning: no space" in start.said():
                    break
            remount(output_dir, "size=64m")
            start.wait()
            lost = f"ends with {start.code}: {start.last_line()}" if start.code else None
            lost = lost or Left(output_dir).differs(reference, metrics=False)
            return Trial("disk too small, larger meanwhile", lost)
    except PermissionError:
        return limited_for_a_while(bench)


def read_only(bench: Bench) -> Trial:
    output_dir = bench.new("F7")
    folder = output_dir.parent / f"{output_dir.name}-read-only"
    try:
        with file_system(folder, "size=1m"):
            remount(folder, "ro")
            start = bench.run(folder / "run", **LONG)
            lost = None
            if start.code != 2 or "is not writable: Read-only file system" not in start.last_line():
                lost = f"ends with {start.code}: {start.last_line()}"
            return Trial("folder that cannot be written", lost or ("something was written" if tree(folder) else None))
    except PermissionError:
        return limited_to_the_end(bench)
