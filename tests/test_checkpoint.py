"""Checkpoints (training/checkpoint.py): whole or not there, whatever is killed, cut short or mixed up."""

import errno
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from training import checkpoint
from training.arguments import OptimizationArguments
from training.checkpoint import (
    Checkpoints,
    DiskFull,
    check_output_dir,
    check_same_run,
    claim_output_dir,
    load,
    load_model_tensors,
    load_optimizer_tensors,
    lock,
    model_tensors,
    optimizer_tensors,
    verify,
)
from training.optimization import decoupled_adamw


ROOT = Path(__file__).resolve().parent.parent
FILES = ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.json", "MANIFEST.json"]


def save(checkpoints: Checkpoints, step: int) -> Path:
    value = float(step)
    return checkpoints.save(
        step,
        {"weight": torch.full((4, 3), value), "count": torch.tensor(step)},
        {"exp_avg.weight": torch.full((4, 3), -value)},
        {"run": {"seed": 42}},
        {"config.json": '{"hidden_size": 3}'},
    )


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def tied_model() -> nn.Module:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "dense": nn.Linear(4, 4), "decoder": nn.Linear(4, 5)})
    model["decoder"].weight = model["embedding"].weight
    model.register_buffer("seen", torch.zeros(1))
    return model


def update(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(3, 4, generator=generator)
    model["decoder"](model["dense"](x)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


# What is written


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    path = save(Checkpoints(tmp_path), 7)
    assert path == tmp_path / "checkpoints" / "step_00000007"
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    model_state, optimizer_state, trainer_state = load(path)
    assert model_state["weight"].equal(torch.full((4, 3), 7.0))
    assert model_state["count"].equal(torch.tensor(7))
    assert optimizer_state["exp_avg.weight"].equal(torch.full((4, 3), -7.0))
    assert trainer_state == {"run": {"seed": 42}, "step": 7}
    assert verify(path) == []


def test_only_the_newest_are_kept_and_there_is_always_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, total_limit=2)
    for step in (1, 2, 10):
        save(checkpoints, step)
    assert names(checkpoints) == ["step_00000002", "step_00000010"]

    for total_limit, expected in ((1, 1), (None, 5)):
        checkpoints = Checkpoints(tmp_path / str(total_limit), total_limit)
        for step in range(5):
            save(checkpoints, step)
        assert len(names(checkpoints)) == expected


def test_a_whole_checkpoint_of_the_same_step_is_kept(tmp_path):
    path = save(Checkpoints(tmp_path), 7)
    before = (path / "MANIFEST.json").stat()
    assert save(Checkpoints(tmp_path), 7) == path
    assert (path / "MANIFEST.json").stat().st_ino == before.st_ino


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model", "optimizer"])
def test_tensors_that_are_not_finite_are_never_saved(tmp_path, value, where):
    states = {"model": {"w": torch.zeros(3)}, "optimizer": {"exp_avg.w": torch.zeros(3)}}
    next(iter(states[where].values()))[1] = value
    with pytest.raises(ValueError, match=rf"w holds NaN or Inf, so no checkpoint is written \({where}"):
        Checkpoints(tmp_path).save(1, states["model"], states["optimizer"], {})
    assert not list(tmp_path.rglob("step_*"))


def test_what_a_killed_save_left_is_removed_by_the_next_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    (checkpoints.folder / "step_00000003.partial").mkdir(parents=True)
    save(checkpoints, 7)
    assert names(checkpoints) == ["step_00000007"]


# A full disk


def test_a_disk_without_room_for_twice_the_size_is_named_before_anything_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 100, 100))
    with pytest.raises(DiskFull, match="need 0 MB, have 0 MB; earlier checkpoints are intact"):
        save(checkpoints, 2)
    assert names(checkpoints) == ["step_00000001"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left (os error 28)")],
)
def test_a_disk_that_fills_up_during_a_save_costs_only_that_checkpoint(tmp_path, monkeypatch, error):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)

    def full(state, path, metadata):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DiskFull, match=r"no space left for checkpoint .*step_00000002"):
        save(checkpoints, 2)
    assert names(checkpoints) == ["step_00000001"]
    monkeypatch.undo()
    save(checkpoints, 3)
    assert checkpoints.newest()[0].name == "step_00000003"


def test_other_errors_of_a_save_pass_and_leave_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        Checkpoints(tmp_path).save(1, {}, {}, {"a set": {1}})
    assert not list(tmp_path.rglob("step_*"))


# Damage


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["truncated", "bit flip", "empty", "missing", "swapped with older"])
def test_every_damage_is_found_named_and_passed_over(tmp_path, file, damage):
    checkpoints = Checkpoints(tmp_path)
    older, newer = save(checkpoints, 1), save(checkpoints, 2)
    if file == "config.json" and damage == "swapped with older":
        (older / file).write_text('{"hidden_size": 4}')  # the two are equal
    content = (newer / file).read_bytes()
    if damage == "truncated":
        (newer / file).write_bytes(content[:-2])  # without the line break at its end a manifest is still whole
    elif damage == "bit flip":
        (newer / file).write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    elif damage == "empty":
        (newer / file).write_bytes(b"")
    elif damage == "missing":
        (newer / file).unlink()
    else:
        shutil.copy(older / file, newer / file)
    if file == "config.json" and damage == "swapped with older":
        (older / file).write_text('{"hidden_size": 3}')

    (problem, *_) = verify(newer)
    assert file in problem
    found, (skipped,) = checkpoints.newest()
    assert found == older
    assert str(newer) in skipped and problem in skipped
    with pytest.raises(ValueError, match=r"step_00000002 is damaged: .*; take another, or auto"):
        checkpoints.to_resume(str(newer))


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"files": {}, "step": 1}', '{"files": {"a": 1}, "step": 1}', "\xff"]
)
def test_a_manifest_that_does_not_list_the_files_is_broken(tmp_path, text):
    path = save(Checkpoints(tmp_path), 1)
    (path / "MANIFEST.json").write_text(text, encoding="latin-1")
    assert verify(path) == ["MANIFEST.json is broken"]


def test_any_flipped_bit_of_a_manifest_is_found_and_may_be_the_manifest_s_own(tmp_path, monkeypatch):
    path = save(Checkpoints(tmp_path), 8)
    whole = (path / "MANIFEST.json").read_bytes()
    checksums = {file: checkpoint._size_and_sha256(path / file) for file in json.loads(whole)["files"]}
    monkeypatch.setattr(checkpoint, "_size_and_sha256", lambda file: checksums[file.name])  # they stay as they are
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            (path / "MANIFEST.json").write_bytes(flipped)
            problems = verify(path)
            assert problems and all("MANIFEST.json" in each for each in problems), flipped[place - 20 : place + 20]


def test_a_manifest_of_another_step_than_the_state_is_damaged(tmp_path):
    path = save(Checkpoints(tmp_path), 8)
    manifest = (path / "MANIFEST.json").read_text()
    (path / "MANIFEST.json").write_text(manifest.replace('"step": 8', '"step": 9'))  # one bit
    assert verify(path) == ["MANIFEST.json says step 9, trainer_state.json 8"]


def test_a_file_that_is_not_in_the_manifest_does_not_matter(tmp_path):
    path = save(Checkpoints(tmp_path), 1)
    (path / "notes.txt").write_text("mine")
    assert verify(path) == []


def test_resuming_finds_nothing_the_newest_or_the_named_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.to_resume(None) == checkpoints.to_resume("auto") == (None, [])
    older, newer = save(checkpoints, 1), save(checkpoints, 2)
    assert checkpoints.to_resume(None) == (None, [])
    assert checkpoints.to_resume("auto") == (newer, [])
    assert checkpoints.to_resume(str(newer)) == (newer, [])
    assert Checkpoints(tmp_path / "other").to_resume(str(older)) == (older, [])
    with pytest.raises(ValueError, match="already has step_00000002; remove them, resume with auto, or"):
        checkpoints.to_resume(str(older))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        checkpoints.to_resume(str(tmp_path / "gone"))


def test_a_run_whose_checkpoints_are_all_damaged_does_not_silently_start_again(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        (save(checkpoints, step) / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of 2 checkpoints .* is whole .*model.safetensors has 0 bytes"):
        checkpoints.to_resume("auto")


def test_a_damaged_checkpoint_neither_pushes_out_a_good_one_nor_stays_when_the_run_gets_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, total_limit=1)
    damaged = save(checkpoints, 30)
    (damaged / "model.safetensors").write_bytes(b"")
    save(checkpoints, 10)
    save(checkpoints, 20)
    assert names(checkpoints) == ["step_00000020", "step_00000030"]
    assert checkpoints.newest()[0].name == "step_00000020"
    assert verify(save(checkpoints, 30)) == []
    assert names(checkpoints) == ["step_00000030"]


def test_a_file_that_cannot_be_read_is_named_with_the_cure(tmp_path):
    path = save(Checkpoints(tmp_path), 1)
    for file in ("trainer_state.json", "optimizer.safetensors", "model.safetensors"):
        (path / file).write_bytes(b"{")
        with pytest.raises(ValueError, match=rf"{file} cannot be read .*; take another checkpoint, or auto"):
            load(path)


# Killed while saving

KILL_SAVERS = """
import os, random, signal, sys, time
import torch
from training.checkpoint import Checkpoints, load

moment = random.Random(0)
checkpoints = Checkpoints(sys.argv[1], total_limit=1)
step = 0
for _ in range(12):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        while True:
            step += 1
            state = {"w": torch.full((50_000,), float(step))}
            checkpoints.save(step, state, state, {})
            os.write(write, f"{step} ".encode())
    os.close(write)
    reported = os.read(read, 100)  # the first save is done
    time.sleep(moment.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(read, 1000):
        reported += more
    last = int(reported.split()[-1])
    found, skipped = checkpoints.newest()
    step = int(found.name[5:])
    assert not skipped and step in (last, last + 1), (found, skipped, last)
    assert load(found)[0]["w"][0] == step
print(step)
"""


def test_a_kill_at_any_moment_leaves_the_last_complete_checkpoint(tmp_path):
    """kill -9 inside saves, with a limit of one checkpoint: the last reported one or the next always verifies."""
    command = [sys.executable, "-c", KILL_SAVERS, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) >= 12


@pytest.mark.parametrize("call", ["fsync", "rename", "rmtree"])
def test_a_kill_before_any_step_of_a_save_leaves_one_whole_checkpoint(tmp_path, monkeypatch, call):
    """As above, but at each system call in turn: what a kill before the n-th one leaves on disk."""

    class Killed(BaseException):
        pass

    nth = 0
    while True:
        output_dir = tmp_path / f"{call}{nth}"
        checkpoints = Checkpoints(output_dir, total_limit=1)
        with claim_output_dir(output_dir, None):
            save(checkpoints, 1)
        with monkeypatch.context() as patch:
            calls = 0

            def until_killed(original, nth=nth):
                def wrapped(*args, **kwargs):
                    nonlocal calls
                    calls += 1
                    if calls > nth:  # a killed process does not clean up either
                        raise Killed
                    return original(*args, **kwargs)

                return wrapped

            target = {"fsync": (checkpoint, "_fsync"), "rename": (Path, "rename"), "rmtree": (shutil, "rmtree")}[call]
            patch.setattr(*target, until_killed(getattr(*target)))
            if call != "rmtree":
                patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
            try:
                save(checkpoints, 2)
            except Killed:
                pass
            else:
                break
        found, skipped = checkpoints.newest()
        assert found.name in ("step_00000001", "step_00000002") and skipped == []
        with claim_output_dir(output_dir, "auto"):
            assert not list(output_dir.rglob("*.partial"))
        nth += 1
    assert nth >= {"fsync": 7, "rename": 2, "rmtree": 1}[call]


# Tensors of model and optimizer


def test_a_resumed_optimizer_goes_on_exactly_as_the_unbroken_one(tmp_path):
    torch.manual_seed(0)
    model, resumed = tied_model(), tied_model()
    optimization = OptimizationArguments(learning_rate=0.1)
    optimizer, other = decoupled_adamw(model, optimization), decoupled_adamw(resumed, optimization)
    for step in range(3):
        update(model, optimizer, step)

    path = Checkpoints(tmp_path).save(3, model_tensors(model), optimizer_tensors(model, optimizer), {})
    update(resumed, other, 9)  # what is there before is replaced
    model_state, optimizer_state, _ = load(path)
    load_model_tensors(resumed, model_state, path)
    load_optimizer_tensors(resumed, other, optimizer_state, path)

    before, after = optimizer_tensors(model, optimizer), optimizer_tensors(resumed, other)
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    for step in range(3, 6):
        update(model, optimizer, step)
        update(resumed, other, step)
    assert all(one.equal(two) for one, two in zip(model.parameters(), resumed.parameters(), strict=True))


def test_tied_parameters_are_saved_once_and_stay_tied(tmp_path):
    model = tied_model()
    state = model_tensors(model)
    assert sorted(state) == ["decoder.bias", "dense.bias", "dense.weight", "embedding.weight", "seen"]
    optimizer = decoupled_adamw(model, OptimizationArguments())
    update(model, optimizer, 0)
    assert sorted(optimizer_tensors(model, optimizer)) == sorted(
        f"{key}.{name}" for key in ("exp_avg", "exp_avg_sq", "step") for name in state if name != "seen"
    )
    load_model_tensors(model, {name: torch.ones_like(tensor) for name, tensor in state.items()}, tmp_path)
    assert model["decoder"].weight is model["embedding"].weight
    assert model["decoder"].weight.eq(1).all()


def test_an_optimizer_that_made_no_update_is_saved_too(tmp_path):
    model = tied_model()
    optimizer = decoupled_adamw(model, OptimizationArguments())
    path = Checkpoints(tmp_path).save(0, model_tensors(model), optimizer_tensors(model, optimizer), {})
    update(model, optimizer, 0)
    load_optimizer_tensors(model, optimizer, load(path)[1], path)
    assert optimizer_tensors(model, optimizer) == {}


def test_tensors_of_another_model_are_refused_with_file_name_and_cure():
    model = tied_model()
    optimizer = decoupled_adamw(model, OptimizationArguments())
    update(model, optimizer, 0)
    for own, put, file in (
        (model_tensors(model), lambda t: load_model_tensors(model, t, "c"), "c/model.safetensors"),
        (
            optimizer_tensors(model, optimizer),
            lambda t: load_optimizer_tensors(model, optimizer, t, "c"),
            "c/optimizer",
        ),
    ):
        name = next(name for name in own if name.endswith("dense.weight") and own[name].ndim)
        with pytest.raises(ValueError, match=rf"{file}.* lacks {name}; it belongs to another model"):
            put({other: tensor for other, tensor in own.items() if other != name})
        with pytest.raises(ValueError, match=rf"{file}.* has unknown exp_avg.x and 1 more; it belongs"):
            put({**own, "exp_avg.x": torch.zeros(1), "exp_avg.y": torch.zeros(1)})
        with pytest.raises(ValueError, match=rf"{file}.*: {name} is \(2,\), expected \(4, 4\); it belongs"):
            put({**own, name: torch.zeros(2)})


# The same run

RUN = {
    "seed": 42,
    "global_batch_size": 32,
    "data_fingerprint": "ab",
    "masking": {"mask_ratio": 0.15, "num_static_masks": None},
    "config": {"hidden_size": 8, "objectives": ["mlm", "sbo"], "id2label": {0: "a"}, "transformers_version": "5"},
}


def test_the_same_run_continues_whatever_wrote_its_config():
    check_same_run(json.loads(json.dumps(RUN)), RUN)
    check_same_run(RUN, {**RUN, "config": {**RUN["config"], "transformers_version": "6"}})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 43}, "another run: seed was 42, is 43; give the same values, or start anew in another output_dir"),
        ({"global_batch_size": 64}, "global_batch_size was 32, is 64"),
        ({"data_fingerprint": "cd"}, 'data_fingerprint was "ab", is "cd"'),
        ({"masking": {"mask_ratio": 0.3, "num_static_masks": None}}, "masking.mask_ratio was 0.15, is 0.3"),
        ({"masking": {"mask_ratio": 0.15, "num_static_masks": 10}}, "masking.num_static_masks was null, is 10"),
        (
            {"config": {**RUN["config"], "objectives": ["mlm"]}},
            r'config.objectives was \["mlm", "sbo"\], is \["mlm"\]',
        ),
        ({"seed": 1, "global_batch_size": 2}, "seed was 42, is 1; global_batch_size was 32, is 2"),
    ],
)
def test_another_run_is_refused_with_both_values(changed, message):
    with pytest.raises(ValueError, match=message):
        check_same_run(RUN, {**RUN, **changed})


# The output folder


def test_a_new_an_empty_and_an_untrained_output_dir_are_fine(tmp_path):
    check_output_dir(tmp_path / "new", None)
    check_output_dir(tmp_path, None)
    for _ in range(2):
        with claim_output_dir(tmp_path, None):
            (tmp_path / "run.json").write_text("{}")
            (tmp_path / "checkpoints" / "step_00000001.partial").mkdir(parents=True)


def test_an_output_dir_with_a_run_needs_a_resume(tmp_path):
    with claim_output_dir(tmp_path, None):
        save(Checkpoints(tmp_path), 1)
    with pytest.raises(ValueError, match="already holds a run; continue it with --resume_from_checkpoint auto, or"):
        check_output_dir(tmp_path, None)
    check_output_dir(tmp_path, "auto")


@pytest.mark.parametrize("resume", [None, "auto"])
def test_an_output_dir_with_other_files_is_refused(tmp_path, resume):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"holds thesis\.tex but no run; give another folder"):
        with claim_output_dir(tmp_path, resume):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_output_dir_that_is_a_file_or_not_writable_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file; give a folder"):
        check_output_dir(tmp_path / "file", None)
    with pytest.raises(OSError, match="file/under is not writable: Not a directory"):
        with claim_output_dir(tmp_path / "file" / "under", None):
            pass


HOLD = """
import sys, time
from training.checkpoint import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_run_writes_to_a_folder_and_a_killed_one_lets_go(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for resume in (None, "auto"):
            with pytest.raises(BlockingIOError, match=f"in use by process {holder.pid} on .*; wait for it, or give"):
                with claim_output_dir(tmp_path, resume):
                    pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with lock(tmp_path):
        pass
