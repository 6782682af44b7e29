"""A run small enough for tests: text, vocabulary, a model of 20 thousand parameters, and runs in forked children."""

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from helpers import WORDS, tiny_config, tiny_tokenizer

from training import finish, pretrain


def write_corpus(path: Path, num_documents: int = 40, seed: int = 0) -> Path:
    """Documents of made-up sentences, separated by blank lines."""
    rng = random.Random(seed)
    words = WORDS.split()
    documents = [
        "\n".join(" ".join(rng.choices(words, k=rng.randint(4, 14))) + " ." for _ in range(rng.randint(2, 12)))
        for _ in range(num_documents)
    ]
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


def as_words(values: dict) -> list[str]:
    """A command line of fields; those that are None are left out."""
    words = []
    for name, value in values.items():
        if value is not None:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


class TinyRun:
    """Arguments of `training/pretrain.py` for a run of 12 steps over about 3 passes, in `folder`."""

    script = pretrain

    def __init__(self, folder: Path):
        self.folder = folder
        tiny_tokenizer().save_pretrained(folder / "tokenizer")
        tiny_config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1).save_pretrained(folder / "config")
        self.corpus = write_corpus(folder / "corpus.txt")

    def argv(self, output_dir: str, **changes) -> list[str]:
        values = {
            "config_name": self.folder / "config",
            "tokenizer_name": self.folder / "tokenizer",
            "train_file": self.corpus,
            "validation_split_percentage": 20,
            "cache_dir": self.folder / "cache",
            "max_seq_length": 32,
            "global_batch_size": 16,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 8,
            "learning_rate": 0.003,
            "num_warmup_steps": 2,
            "max_train_steps": 12,
            "checkpointing_steps": 3,
            "eval_steps": 6,
            "logging_steps": 1,
            "output_dir": self.folder / output_dir,
        }
        return as_words(values | changes)

    def run(self, output_dir: str, **changes) -> int:
        """Runs in this process; the exit status."""
        return self.script.main(self.argv(output_dir, **changes))

    def run_in_child(self, output_dir: str, arrange=lambda: None, **changes) -> int:
        """Runs in a forked child in which `arrange()` was called first; its exit code, -9 where it was killed."""

        def child():
            AcceleratorState._reset_state(reset_partial_state=True)  # of a run in the parent, in another precision
            sys.stdout = sys.stderr = open(os.devnull, "w")
            arrange()
            os._exit(self.script.main(self.argv(output_dir, **changes)))

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(120)
        assert process.exitcode is not None, "the run hangs"
        return process.exitcode

    def start_processes(
        self, output_dir: str, arrange=lambda rank: None, num_processes: int = 2, **changes
    ) -> list[multiprocessing.Process]:
        """Starts a run of forked processes that meet over gloo; in each, `arrange(rank)` is called first.

        No launcher watches them: one that ends does not end the other. What one says on stderr is `said(…, rank)`.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def child(rank: int):
            sys.stdout = open(os.devnull, "w")
            sys.stderr = open(self.folder / f"{output_dir}.{rank}.stderr", "w", buffering=1)
            meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank}
            meet |= {"WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
            os.environ |= {name: str(value) for name, value in meet.items()} | {"ACCELERATE_USE_CPU": "true"}
            AcceleratorState._reset_state(reset_partial_state=True)  # what a run in the parent left
            arrange(rank)
            sys.exit(self.script.main(self.argv(output_dir, **changes)))

        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=child, args=(rank,)) for rank in range(num_processes)]
        for process in processes:
            process.start()
        return processes

    def run_in_processes(self, output_dir: str, arrange=lambda rank: None, **changes) -> list[int]:
        """The exit codes of `start_processes`, which takes the same."""
        processes = self.start_processes(output_dir, arrange, **changes)
        for process in processes:
            process.join(200)
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
        assert None not in codes, f"a process hangs: {codes}"
        return codes

    def said(self, output_dir: str, rank: int) -> str:
        return (self.folder / f"{output_dir}.{rank}.stderr").read_text()

    def losses(self, output_dir: str) -> list[tuple]:
        """What each line of metrics.jsonl says, but for times."""
        lines = (self.folder / output_dir / "metrics.jsonl").read_text().splitlines()
        return [
            {name: value for name, value in json.loads(line).items() if name != "tokens_per_second"} for line in lines
        ]

    def weights(self, output_dir: str) -> bytes:
        return (self.folder / output_dir / "export" / "model.safetensors").read_bytes()


def output_of(process: subprocess.Popen) -> str:
    """What a launch said by its end; one that hangs is ended, and its processes by it."""
    try:
        return process.communicate(timeout=200)[0]
    except subprocess.TimeoutExpired:
        process.terminate()
        raise


def shard_on_cpu(rank: int = 0) -> None:
    """Makes accelerate shard in this process, a child, by FSDP2, as its launcher does on GPUs: on CPUs it does not."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def kill_at(owner, name: str, calls: int, by: signal.Signals = signal.SIGKILL):
    """Makes the process send itself a signal at the `calls`-th call of `owner.name`; to be called in a child."""
    original, count = getattr(owner, name), iter(range(1, 1_000_000))

    def counted(*args, **kwargs):
        if next(count) == calls:
            os.kill(os.getpid(), by)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def without_clean_process():
    """Exports without the check in a second Python, which takes seconds; tests of the export make it."""
    exported = finish.export
    finish.export = lambda *args, **more: exported(*args, in_clean_process=False, **more)
