"""The command `spanbert` as a program among others: its help, and how it ends when nobody reads or waits any more."""

import os
import shlex
import signal
import subprocess
import sys

import pytest
from helpers import ROOT, tiny_config, tiny_tokenizer

from modeling_spanbert import SpanBertModel
from modeling_spanbert.__main__ import main, parser
from modeling_spanbert.commands import push


COMMANDS = (
    *("", "push", "convert", "show", "show masks", "show answer", "show clusters"),
    *("predict", "predict coref", "predict fill"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_one_screen_with_an_example_that_is_parsed(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 36 and max(map(len, lines[:-1])) <= 110
    example = lines[-1].removeprefix("example: ")
    assert example.startswith(f"spanbert {command}".strip())
    assert parser().parse_args(shlex.split(example)[1:]).run


@pytest.mark.parametrize(
    "command", ["show masks long.txt", pytest.param("show masks 'a short text'", marks=pytest.mark.slow)]
)
def test_it_ends_quietly_when_nobody_reads_on(command, tmp_path):
    # More than a pipe and a buffer hold; the other is written when all is done.
    (tmp_path / "long.txt").write_text("The Broncos beat the Panthers in the last game. " * 500)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "modeling_spanbert", *shlex.split(command)]
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, env=environment, cwd=tmp_path)
    os.close(writing)
    assert (found.returncode, found.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow
def test_a_model_without_the_head_is_one_line(tmp_path):
    SpanBertModel(tiny_config()).save_pretrained(tmp_path / "encoder")
    tiny_tokenizer().save_pretrained(tmp_path / "encoder")
    program = [sys.executable, "-m", "modeling_spanbert", "predict", "fill", "a [BLANK]", "--model_name_or_path"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run([*program, "encoder"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr.startswith("error: encoder cannot fill blanks") and found.stderr.count("\n") == 1


def test_an_interruption_is_no_traceback(tmp_path, monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(push, "run", interrupted)
    assert main(["push", str(tmp_path), "--hub_model_id", "org/name"]) == 128 + signal.SIGINT
    assert capsys.readouterr() == ("", "")
