"""Recipes and command lines (training/arguments.py)."""

import dataclasses
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.arguments import (
    PRETRAINING,
    RECIPES,
    DataArguments,
    MaskingArguments,
    ModelArguments,
    OptimizationArguments,
    RunArguments,
    UpdateArguments,
    one_line_errors,
    parse_recipe,
    read_recipe,
    resolved,
)
from training.finetuning_arguments import FINETUNING


ROOT = Path(__file__).resolve().parent.parent


def parse(*argv: str) -> dict:
    return resolved(*parse_recipe(PRETRAINING, ["--output_dir", "out", *argv]))


@pytest.fixture
def recipe(tmp_path):
    def write(text: str, name: str = "recipe.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def from_recipe(path: str, *argv: str) -> dict:
    return resolved(*parse_recipe(PRETRAINING, [path, "--output_dir", "out", *argv]))


def test_the_command_line_overrides_the_recipe_which_overrides_the_defaults(recipe):
    path = recipe("mask_ratio: 0.2\np: 0.4\n")
    values = from_recipe(path, "--p", "0.1")
    assert (values["mask_ratio"], values["p"], values["max_span_length"]) == (0.2, 0.1, 10)


def test_a_recipe_states_only_its_difference_from_the_one_it_extends(recipe, tmp_path):
    recipe("mask_ratio: 0.2\nlearning_rate: 1.0e-3\n", "base.yaml")
    (tmp_path / "ablations").mkdir()
    middle = recipe("extends: ../base.yaml\nmask_ratio: 0.3\n", "ablations/middle.yaml")
    last = recipe("extends: middle.yaml\np: 0.4\n", "ablations/last.yaml")
    assert read_recipe(middle) == {"mask_ratio": 0.3, "learning_rate": 1e-3}
    assert read_recipe(last) == {"mask_ratio": 0.3, "learning_rate": 1e-3, "p": 0.4}


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_comes_with_the_code_parses_and_divides_into_batches(path):
    kinds = PRETRAINING if "pretrain" in path.parts else FINETUNING
    arguments = parse_recipe(kinds, [str(path), "--output_dir", "out"])
    [optimization] = [each for each in arguments if isinstance(each, UpdateArguments)]
    assert optimization.gradient_accumulation_steps(num_processes=1) >= 1
    assert kinds is FINETUNING or optimization.notes() == []


def test_the_large_recipe_is_the_papers():
    values = from_recipe(str(RECIPES / "pretrain" / "spanbert_large_cased.yaml"))
    expected = {
        "mask_ratio": 0.15,
        "p": 0.2,
        "max_span_length": 10,
        "max_seq_length": 512,
        "global_batch_size": 256,
        "learning_rate": 1e-4,
        "num_warmup_steps": 10_000,
        "max_train_steps": 2_400_000,
        "weight_decay": 0.1,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
    }
    assert expected.items() <= values.items()


def test_what_a_run_writes_down_is_a_recipe_that_gives_the_same_run(recipe):
    import json

    values = from_recipe(str(RECIPES / "pretrain" / "tiny.yaml"), "--seed", "7")
    again = resolved(*parse_recipe(PRETRAINING, [recipe(json.dumps(values), "run.json")]))
    assert again == values


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--check"], "check", True),
        (["--check", "true"], "check", True),
        (["--complete_words", "false"], "complete_words", False),
        (["--complete_words=False"], "complete_words", False),
        (["--learning_rate", "1e-4"], "learning_rate", 1e-4),
        (["--max_train_steps", "2.4e6", "--num_warmup_steps", "0"], "max_train_steps", 2_400_000),
        (["--checkpoints_total_limit", "none"], "checkpoints_total_limit", None),
        (["--train_file", "a.txt", "b.txt"], "train_file", ["a.txt", "b.txt"]),
        (["--train_file", "none"], "train_file", None),
        (["--objectives", "mlm"], "objectives", ["mlm"]),
        (["--output_dir", "2024"], "output_dir", "2024"),
        (["--mixed_precision", "no"], "mixed_precision", "no"),
    ],
)
def test_values_of_the_command_line_become_the_fields_type(argv, field, value):
    assert parse(*argv)[field] == value


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("learning_rate: 1e-4", "learning_rate", 1e-4),  # text to YAML
        ("mixed_precision: no", "mixed_precision", "no"),  # false to YAML
        ("train_file: a.txt", "train_file", ["a.txt"]),
        ("train_file: [a.txt, b.txt]", "train_file", ["a.txt", "b.txt"]),
        ("stop_after_step:", "stop_after_step", None),
        ("weight_decay: 0", "weight_decay", 0.0),
    ],
)
def test_values_of_a_recipe_become_the_fields_type(recipe, text, field, value):
    assert from_recipe(recipe(text))[field] == value


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learnig_rate", "1"], "unknown field 'learnig_rate'; closest: learning_rate"),
        (["--maks_ratio=0.2"], "unknown field 'maks_ratio'; closest: mask_ratio"),
        (["--mask-ratio", "0.2"], "unknown field 'mask-ratio'; closest: mask_ratio"),
        (["--learning", "1"], "unknown field 'learning'; closest: learning_rate"),
        (["--qqqq", "1"], "unknown field 'qqqq'; --help lists the fields"),
        (["--learning_rate", "fast"], "learning_rate=fast: expected a number"),
        (["--max_span_length", "1.5"], "max_span_length=1.5: expected a whole number"),
        (["--max_train_steps", "none"], "max_train_steps=none: expected a whole number"),
        (["--max_train_steps", "inf"], "max_train_steps=inf: expected a whole number"),
        (["--complete_words", "maybe"], "complete_words=maybe: expected true or false"),
        (["--mixed_precision", "fp16"], "mixed_precision=fp16: expected one of no, bf16"),
        (["--learning_rate"], "argument --learning_rate: expected one argument"),
        (["recipe.yaml", "other.yaml", "--check"], "unrecognized arguments: other.yaml"),
    ],
)
def test_a_wrong_command_line_is_named_in_one_line(recipe, argv, message):
    if argv[0] == "recipe.yaml":
        argv = [recipe("p: 0.2"), *argv[1:]]
    with pytest.raises(ValueError) as error:
        parse_recipe(PRETRAINING, argv)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnig_rate: 1", "unknown field 'learnig_rate'; closest: learning_rate"),
        ("p: 0.2\nmask_ratio: 0.1\np: 0.3", "p is given twice"),
        ("[1, 2]", "not a mapping of fields to values, but list"),
        ("", "not a mapping of fields to values, but NoneType"),
        ("p: [", "is not YAML"),
        ("p: !!python/object/apply:os.system [ls]", "is not YAML"),
        ("? [p]\n: 1", "is not YAML"),
        ("extends: [a.yaml]", "expected the path of one recipe"),
        ("mask_ratio: {a: 1}", 'mask_ratio={"a": 1}: expected a number'),
        ("mask_ratio: true", "mask_ratio=true: expected a number"),
        ("objectives: [1, 2]", "objectives=[1, 2]: expected a list of texts"),
        ("output_dir: true", "output_dir=true: expected text"),
        ("5: 1", "unknown field '5'"),
    ],
)
def test_a_wrong_recipe_is_named_in_one_line(recipe, text, message):
    with pytest.raises(ValueError) as error:
        parse_recipe(PRETRAINING, [recipe(text)])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"p: 0.2 # \xff")
    with pytest.raises(ValueError, match=r"bad\.yaml is not UTF-8 text"):
        read_recipe(tmp_path / "bad.yaml")


def test_recipes_that_extend_each_other_are_refused(recipe):
    recipe("extends: b.yaml", "a.yaml")
    path = recipe("extends: a.yaml", "b.yaml")
    with pytest.raises(ValueError, match=r"extends itself: b\.yaml -> a\.yaml -> b\.yaml"):
        read_recipe(path)


def test_a_missing_recipe_names_the_nearest_ones(recipe, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no recipe .*tinny\.yaml; closest: .*training/recipes/pretrain/tiny\.yaml"
    ):
        read_recipe("tinny.yaml")
    recipe("p: 0.2", "mine.yaml")
    with pytest.raises(FileNotFoundError, match=r"closest: .*mine\.yaml"):
        read_recipe(tmp_path / "mime.yaml")
    with pytest.raises(FileNotFoundError, match=r"no recipe .*gone\.yaml"):
        read_recipe(recipe("extends: gone.yaml"))


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (DataArguments, {"max_seq_length": 2}, "max_seq_length=2: must be at least 3"),
        (DataArguments, {"validation_split_percentage": 60}, "validation_split_percentage=60"),
        (DataArguments, {"train_tokenizer": True}, "train_tokenizer=True, vocab_size=None: they go together"),
        (DataArguments, {"vocab_size": 100}, "train_tokenizer=False, vocab_size=100: they go together"),
        (DataArguments, {"train_tokenizer": True, "vocab_size": 9, "tokenizer_name": "x"}, "give one of them"),
        (DataArguments, {"train_file": ["a"], "dataset_name": "b"}, "give one of them"),
        (DataArguments, {"dataset_config_name": "b"}, "without dataset_name"),
        (ModelArguments, {"hidden_dropout_prob": 1.5}, r"hidden_dropout_prob=1.5: must be in \[0, 1\)"),
        (MaskingArguments, {"mask_ratio": 0.0}, r"mask_ratio=0.0: must be in \(0, 1\)"),
        (MaskingArguments, {"mask_ratio": 1.0}, "mask_ratio"),
        (MaskingArguments, {"mask_ratio": math.nan}, "mask_ratio=nan"),
        (MaskingArguments, {"p": 1.0}, "p=1.0"),
        (MaskingArguments, {"p": math.nan}, "p=nan"),
        (MaskingArguments, {"max_span_length": 0}, "max_span_length=0: must be at least 1"),
        (MaskingArguments, {"num_static_masks": 0}, "num_static_masks=0"),
        (OptimizationArguments, {"learning_rate": 0.0}, "learning_rate=0.0: must be positive"),
        (OptimizationArguments, {"learning_rate": math.nan}, "learning_rate=nan"),
        (OptimizationArguments, {"weight_decay": -1.0}, "weight_decay=-1.0: must not be negative"),
        (OptimizationArguments, {"adam_beta2": 1.0}, "adam_beta2=1.0"),
        (OptimizationArguments, {"max_train_steps": 0}, "max_train_steps=0: must be at least 1"),
        (OptimizationArguments, {"num_warmup_steps": -1}, "num_warmup_steps=-1"),
        (OptimizationArguments, {"global_batch_size": 0}, "global_batch_size=0"),
        (OptimizationArguments, {"max_train_steps": 5, "stop_after_step": 6}, "beyond max_train_steps=5"),
        (RunArguments, {}, "output_dir is missing"),
        (RunArguments, {"output_dir": "o", "seed": -1}, "seed=-1"),
        (RunArguments, {"output_dir": "o", "eval_steps": 0}, "eval_steps=0"),
        (RunArguments, {"output_dir": "o", "dataloader_num_workers": -1}, "dataloader_num_workers=-1"),
        (RunArguments, {"output_dir": "o", "push_to_hub": True}, "push_to_hub without hub_model_id"),
    ],
)
def test_values_that_cannot_work_are_refused(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)


@pytest.mark.parametrize(
    ("masking", "objectives", "data"),
    [
        ({}, ["mlm", "sbo"], {}),
        ({"masking_scheme": "whole_words"}, ["mlm", "sbo"], {}),
        ({"masking_scheme": "subwords"}, ["mlm", "nsp"], {"short_seq_prob": 0.1}),
        ({"masking_scheme": "subwords"}, ["mlm"], {"max_seq_length": 4}),  # no span is longer than a token
        ({"masking_scheme": "noun_phrases"}, ["mlm", "nsp"], {"annotation_file": ["spans.jsonl"]}),
    ],
)
def test_masking_that_goes_with_objectives_and_data(masking, objectives, data):
    MaskingArguments(**masking).check(objectives, DataArguments(**data))


@pytest.mark.parametrize(
    ("masking", "objectives", "data", "message"),
    [
        ({}, ["mlm"], {"max_seq_length": 5}, r"spans of 3\.80 words .* max_seq_length=5; lower max_span_length"),
        ({"masking_scheme": "subwords"}, ["mlm", "sbo"], {}, "masking_scheme=subwords masks single tokens"),
        ({"masking_scheme": "named_entities"}, ["mlm"], {}, "annotation_file is missing: make one with python -m"),
        ({}, ["mlm"], {"annotation_file": ["spans.jsonl"]}, "masking_scheme=geometric_spans, which reads none"),
        ({}, ["mlm", "sbo"], {"short_seq_prob": 0.1}, "only two-sequence blocks .* are shortened; set it to 0"),
    ],
)
def test_masking_that_contradicts_objectives_or_data_is_refused(masking, objectives, data, message):
    with pytest.raises(ValueError, match=message):
        MaskingArguments(**masking).check(objectives, DataArguments(**data))


def test_accumulation_follows_from_the_global_batch():
    optimization = OptimizationArguments(global_batch_size=32, per_device_train_batch_size=4)
    assert [optimization.gradient_accumulation_steps(n) for n in (1, 2, 8)] == [8, 4, 1]
    with pytest.raises(ValueError, match=r"not a multiple of .* x 3 processes = 12; the nearest that is: 24"):
        optimization.gradient_accumulation_steps(3)
    with pytest.raises(ValueError, match="the nearest that is: 64"):
        optimization.gradient_accumulation_steps(16)


def test_a_run_that_ends_inside_its_warm_up_is_noted():
    assert OptimizationArguments().notes() == []
    assert "warm-up of 100 steps" in OptimizationArguments(num_warmup_steps=100, max_train_steps=20).notes()[0]


@pytest.mark.parametrize("error", [ValueError("bad\nsecond line"), FileNotFoundError("bad"), ValueError()])
@pytest.mark.parametrize("argv", [[], ["--debug"]])
def test_a_users_error_is_one_line_and_exit_status_2(capsys, error, argv):
    @one_line_errors
    def main(argv=None):
        raise error

    with pytest.raises(SystemExit) as exit:
        main(argv)
    lines = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2
    assert lines[-1] == f"error: {'bad' if str(error) else 'ValueError'}"
    assert ("Traceback" in lines[0]) == bool(argv)
    assert len(lines) == 1 or argv


def test_a_bug_of_ours_is_not_dressed_up_as_a_users_error():
    @one_line_errors
    def main(argv=None):
        raise KeyError("ours")

    with pytest.raises(KeyError):
        main([])


def test_every_field_is_explained_in_the_help_with_its_default(capsys):
    with pytest.raises(SystemExit) as exit:
        parse_recipe(PRETRAINING, ["--help"], "Pre-trains SpanBERT.")
    assert exit.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for kind in PRETRAINING:
        for field in dataclasses.fields(kind):
            assert f"--{field.name} " in shown, field.name
            assert field.metadata["help"].endswith("."), field.name
            assert " ".join(field.metadata["help"].split()) in shown, field.name
    assert "(default: geometric_spans)" in shown
    assert "(default: 0.15)" in shown


def test_arguments_need_neither_torch_nor_transformers():
    code = "import sys, training.arguments; print({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules))"
    began = time.monotonic()
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
    assert time.monotonic() - began < 5  # 0.1 s on an idle machine
