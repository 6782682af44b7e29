"""The configurations of accelerate that come with the code start what they say, and say where that was tried."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from helpers import ROOT
from run_helpers import TinyRun, output_of


CONFIGS = ROOT / "training" / "configs"
ENGINES = {"ddp": ("MULTI_GPU", 8, 1), "fsdp2": ("FSDP", 8, 1), "multinode": ("MULTI_GPU", 32, 4)}
# What a user launches, made to shard by the helper of these tests.
SHARDING = """import atexit, sys
from pathlib import Path

def native_threads():
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]

atexit.register(lambda: print("threads at the end:", *native_threads()))  # called after all others
from run_helpers import shard_on_cpu
shard_on_cpu()
from training.pretrain import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    return TinyRun(tmp_path_factory.mktemp("run"))


def launch(config: str, options: list[str], script: Path, argv: list[str], **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"{config}.yaml")]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true", **variables}
    command += [*options, str(script), *argv]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_there_is_a_test_for_each():
    assert {path.stem for path in CONFIGS.iterdir()} == set(ENGINES)


@pytest.mark.parametrize("name", ENGINES)
def test_accelerate_reads_a_config_as_what_it_is(name):
    path = CONFIGS / f"{name}.yaml"
    assert path.read_text(encoding="utf-8").startswith(("# tested: ", "# untested: "))
    config = load_config_from_file(str(path))
    assert (config.distributed_type.value, config.num_processes, config.num_machines) == ENGINES[name]
    arguments, *_ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(path), "training/pretrain.py"])
    )
    assert (arguments.use_fsdp, arguments.multi_gpu) == (name == "fsdp2", name != "fsdp2")
    assert not arguments.use_fsdp or arguments.fsdp_version == 2
    assert (arguments.num_processes, arguments.num_machines) == ENGINES[name][1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "multinode"])
def test_data_parallelism_starts_from_its_config(tiny_run, name):
    script = ROOT / "training" / "pretrain.py"
    argv = tiny_run.argv(name, max_train_steps=4)
    if name == "ddp":
        processes = [launch(name, ["--num_processes", "2"], script, argv)]
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        here = ["--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1"]
        processes = [
            launch(name, [*here, "--main_process_port", port, "--machine_rank", rank], script, argv) for rank in "01"
        ]
    outputs = [output_of(process) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    assert tiny_run.run_in_processes(f"{name}_itself", max_train_steps=4) == [0, 0]
    assert tiny_run.losses(name) == tiny_run.losses(f"{name}_itself")


@pytest.mark.slow
def test_shards_start_from_their_config_or_are_refused(tiny_run, tmp_path):
    script = tmp_path / "sharding.py"
    script.write_text(SHARDING)
    options = ["--num_processes", "2"]
    process = launch("fsdp2", options, script, tiny_run.argv("shards", max_train_steps=4))
    output = output_of(process)
    assert process.returncode == 0, output
    assert output.count("threads at the end: ") == 2 and "gloo" not in output  # one that needs Python then ends it all
    assert tiny_run.run_in_processes("plain", max_train_steps=4) == [0, 0]
    for line, other in zip(tiny_run.losses("shards"), tiny_run.losses("plain"), strict=True):
        if "loss" in line:
            assert line["loss"] == pytest.approx(other["loss"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there it shards")
@pytest.mark.parametrize("use_cpu", ["true", "false"])
def test_shards_are_refused_on_cpus(tiny_run, use_cpu):
    argv = tiny_run.argv("refused")
    script = ROOT / "training" / "pretrain.py"
    process = launch("fsdp2", ["--num_processes", "2"], script, argv, ACCELERATE_USE_CPU=use_cpu)
    errors = [line for line in output_of(process).splitlines() if line.startswith("error: ")]
    assert process.returncode != 0 and len(errors) == 1
    assert "FSDP was asked for, but accelerate shards on GPUs alone" in errors[0]
    assert not (tiny_run.folder / "refused").exists()


def test_what_the_document_on_scaling_launches_is_there():
    document = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`?((?:training|benchmarks)/[\w/]+\.(?:yaml|py|md))", document))
    assert {f"training/configs/{name}.yaml" for name in ENGINES} <= named
    assert all((ROOT / name).is_file() for name in named), named
