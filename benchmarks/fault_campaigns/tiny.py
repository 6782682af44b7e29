"""The run that is struck, tiny and whole: text, vocabulary, a model of 150 thousand parameters; and what it leaves.

Everything is judged by files and exit codes, as somebody could who has never seen the code.
"""

import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from signal import SIGKILL

from .starts import Start, forked, meeting, new_python


CONFIG = {
    "model_type": "spanbert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
    "span_position_size": 16,
}
LONG = {"max_train_steps": 40}  # for what has to strike while the run is alive
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NUM_WORDS = 120
TIMES = {"tokens_per_second"}  # what two equal runs do not share


@dataclass
class Trial:
    """One fault: what it was, and why the run is lost, or None where it survived."""

    fault: str
    lost: str | None = None


class Bench:
    """A folder with the inputs of a tiny run, and the runs in it. `rng` says where and when faults strike.

    Raises ValueError where the unbroken run, with which all is compared, does not finish.
    """

    def __init__(self, folder: Path, cold: bool = False):
        self.folder, self.cold, self.rng = folder, cold, random.Random(0)
        self.numbers = count()
        self.references = {}
        write_inputs(folder)

    def new(self, name: str) -> Path:
        """A place for a run that is not there yet."""
        return self.folder / "runs" / f"{name}-{next(self.numbers)}"

    def argv(self, output_dir: Path, **changes) -> list[str]:
        values = {
            "config_name": self.folder / "config",
            "tokenizer_name": self.folder / "vocab.txt",
            "train_file": self.folder / "corpus.txt",
            "validation_split_percentage": 20,
            "cache_dir": self.folder / "cache",
            "max_seq_length": 32,
            "global_batch_size": 12,
            "per_device_train_batch_size": 6,
            "per_device_eval_batch_size": 4,
            "learning_rate": 0.003,
            "num_warmup_steps": 2,
            "max_train_steps": 12,
            "checkpointing_steps": 2,
            "eval_steps": 6,
            "logging_steps": 1,
            "output_dir": output_dir,
            "resume_from_checkpoint": "auto",
        } | changes
        return [word for name, value in values.items() if value is not None for word in (f"--{name}", str(value))]

    def start(
        self,
        output_dir: Path,
        processes: int = 1,
        arrange: Callable[[], None] | None = None,
        arrange_rank: int | None = None,
        whole_export: bool = False,
        **changes,
    ) -> list[Start]:
        """The run, in as many processes as asked for. `arrange` is injected into all of them or one."""
        argv = self.argv(output_dir, **changes)
        starts = []
        for rank, environment in enumerate(meeting(processes) if processes > 1 else [{}]):
            said = self.folder / "said" / f"{output_dir.name}.{next(self.numbers)}"
            if self.cold and arrange is None:
                starts.append(new_python(["-m", "training.pretrain", *argv], said, environment))
            else:
                injected = arrange if arrange_rank in (None, rank) else None
                starts.append(forked(argv, said, environment, injected, whole_export))
        return starts

    def run(self, output_dir: Path, **more) -> Start:
        """The run, by its end; its main process."""
        starts = self.start(output_dir, **more)
        for start in starts:
            start.wait()
        return starts[0]

    def reference(self, processes: int = 1, **changes) -> "Left":
        """What the same run leaves when nothing strikes it."""
        key = json.dumps([processes, changes], default=str)
        if key not in self.references:
            output_dir = self.new("unbroken")
            start = self.run(output_dir, processes=processes, **changes)
            if start.code != 0:
                raise ValueError(f"the unbroken run ends with {start.code}: {start.last_line()}")
            self.references[key] = Left(output_dir)
        return self.references[key]

    def resumed(self, output_dir: Path, reference: "Left", processes: int = 1, **changes) -> str | None:
        """The same command again, to its end: why it is not the unbroken run, or None."""
        start = self.run(output_dir, processes=processes, **changes)
        if start.code != 0:
            return f"the next start ends with {start.code}: {start.last_line()}"
        return Left(output_dir).differs(reference)


class Left:
    """What a run left in its folder."""

    def __init__(self, output_dir: Path):
        self.output_dir = output_dir

    def metrics(self) -> list[dict]:
        path = self.output_dir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [{name: value for name, value in line.items() if name not in TIMES} for line in map(parsed, lines)]

    def status(self) -> dict:
        path = self.output_dir / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @cached_property
    def weights(self) -> str:
        return sha256(self.output_dir / "export" / "model.safetensors")

    def checkpoints(self) -> list[Path]:
        """Whole ones, oldest first."""
        return [path for path in self.checkpoint_folders() if is_whole(path)]

    def checkpoint_folders(self) -> list[Path]:
        return sorted(path for path in (self.output_dir / "checkpoints").glob("step_*") if path.name[5:].isdigit())

    def partial(self) -> list[Path]:
        return list((self.output_dir / "checkpoints").glob("step_*.partial"))

    def newest_step(self) -> int:
        """The step of the newest whole checkpoint, 0 where there is none."""
        return max((int(path.name[5:]) for path in self.checkpoints()), default=0)

    def differs(self, other: "Left", metrics: bool = True) -> str | None:
        """In what this finished run is not the other one, or None."""
        if self.status().get("state") != "finished":
            return f"status.json says {self.status().get('state')}"
        if metrics and self.metrics() != other.metrics():
            return "other lines in metrics.jsonl"
        if self.weights != other.weights:
            return "other weights"
        if self.partial():
            return f"{self.partial()[0].name} is left"
        return None


def parsed(line: str) -> dict:
    """A line of metrics.jsonl; one that is being written, or was cut short, is {}."""
    try:
        return json.loads(line)
    except ValueError:
        return {}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of its manifest is there with its checksum."""
    try:
        files = json.loads((checkpoint / "MANIFEST.json").read_text())["files"]
        return all(sha256(checkpoint / name) == entry["sha256"] for name, entry in files.items())
    except (OSError, ValueError, KeyError):
        return False


def rewrite_manifest(checkpoint: Path) -> None:
    """Makes the checksums those of the files that are there, as somebody would who means harm."""
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    for name in manifest["files"]:
        content = checkpoint / name
        manifest["files"][name] = {"size": content.stat().st_size, "sha256": sha256(content)}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))


def write_inputs(folder: Path) -> None:
    rng = random.Random(0)  # the text is the same for all seeds
    words = [f"{rng.choice('bdfgklmnprst')}{rng.choice('aeiou')}{number:x}" for number in range(NUM_WORDS)]
    for name in ("config", "runs", "said"):
        (folder / name).mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, ".", *words]) + "\n")
    (folder / "config" / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": len(SPECIALS) + 1 + NUM_WORDS}))
    documents = [
        "\n".join(" ".join(rng.choices(words, k=rng.randint(4, 14))) + " ." for _ in range(rng.randint(2, 12)))
        for _ in range(40)
    ]
    (folder / "corpus.txt").write_text("\n\n".join(documents) + "\n")


def moments(start: Start, seconds: float = 60, every: float = 0.003) -> Iterator[None]:
    """Comes back again and again while the process is alive, for so long."""
    deadline = time.monotonic() + seconds
    while start.code is None and time.monotonic() < deadline:
        yield
        time.sleep(every)


def kill(starts: list[Start]) -> bool:
    """kill -9 of all; whether the first was alive."""
    alive = starts[0].code is None
    for start in starts:
        start.send(SIGKILL)
    for start in starts:
        start.wait()
    return alive


def copied(output_dir: Path, to: Path) -> Path:
    return Path(shutil.copytree(output_dir, to, symlinks=True))
