"""Recipes and command lines: dataclasses that refuse what cannot work, and errors of one line.

    python -m training.pretrain RECIPE.yaml [--field value ...]

A recipe is a YAML mapping of field names; `extends: other.yaml` (relative to the recipe) takes another recipe's values
first. The command line comes last. `--field` alone means true, `none` means None, a list takes several values. Nothing
here imports torch or transformers, so that `--help` is immediate.
"""

# ruff: noqa: RUF009 -- `option` makes a dataclass field

import argparse
import contextlib
import difflib
import functools
import json
import math
import os
import re
import sys
import time
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml


RECIPES = Path(__file__).parent / "recipes"
SILENT_SECONDS = 2  # that a process waits before it ends without a word, because another one tells why


def option(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    """A field of an arguments class: its default, what `--help` says of it, and what it may be."""
    return field(default=default, metadata={"help": help, "choices": choices})


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def at_least(arguments: Any, minimum: int, *names: str) -> None:
    """Refuses a number below `minimum`; None passes, the field being optional then."""
    for name in names:
        value = getattr(arguments, name)
        require(value is None or value >= minimum, f"{name}={value}: must be at least {minimum}")


def _in_unit_interval(arguments: Any, *names: str) -> None:
    """Refuses a number outside the open interval (0, 1), NaN too."""
    for name in names:
        value = getattr(arguments, name)
        require(0 < value < 1, f"{name}={value}: must be in (0, 1)")


@dataclass
class TextArguments:
    """Text."""

    train_file: list[str] | None = option(None, "Text: .txt, .jsonl[.gz], folders of those, or package:NAME/PATH.")
    dataset_name: str | None = option(None, "A datasets name or folder, instead of train_file.")
    dataset_config_name: str | None = option(None, "Configuration of dataset_name.")
    text_column: str = option("text", "Column of the text, in JSON lines and datasets.")
    document_per_file: bool = option(False, "A .txt file is one document; else blank lines separate documents.")
    encoding_errors: str = option(
        "strict", "What bytes that are not UTF-8 do: an error, or U+FFFD.", ("strict", "replace")
    )
    skip_bad_shards: bool = option(False, "Leaves out unreadable files, and names them, instead of stopping.")

    def __post_init__(self):
        require(
            not (self.train_file and self.dataset_name),
            f"train_file={self.train_file} and dataset_name={self.dataset_name!r}: give one of them",
        )
        require(
            not (self.dataset_config_name and not self.dataset_name),
            f"dataset_config_name={self.dataset_config_name!r} without dataset_name",
        )

    def file_format(self) -> dict[str, Any]:
        """How files are read, as keywords of `training.corpus.Corpus`."""
        names = ("text_column", "document_per_file", "encoding_errors", "skip_bad_shards")
        return {name: getattr(self, name) for name in names}

    def reading(self) -> dict[str, Any]:
        """All keywords of `training.corpus.Corpus` beside the files."""
        return self.file_format() | {
            "dataset_name": self.dataset_name,
            "dataset_config_name": self.dataset_config_name,
        }


@dataclass
class DataArguments(TextArguments):
    """Text and vocabulary."""

    validation_file: list[str] | None = option(None, "Held-out text, as train_file; none: a part of train_file.")
    validation_split_percentage: float = option(
        5.0, "Documents held out where there is no validation_file, in percent."
    )
    max_seq_length: int = option(512, "Tokens of a row, [CLS] and [SEP] included.")
    short_seq_prob: float = option(
        0.0, "Share of documents with shorter two-sequence blocks (objective nsp); Google's BERT: 0.1."
    )
    annotation_file: list[str] | None = option(
        None, "Spans of named entities and noun phrases, from training/annotate.py, for the schemes of those names."
    )
    tokenizer_name: str | None = option(None, "Cased tokenizer: a folder, a Hub id or a vocab.txt.")
    train_tokenizer: bool = option(False, "Trains a cased WordPiece vocabulary on the training text.")
    vocab_size: int | None = option(None, "Pieces of the vocabulary that train_tokenizer makes.")
    cache_dir: str | None = option(None, "Where prepared text is kept; none: $SPANBERT_CACHE or ~/.cache/spanbert.")

    def __post_init__(self):
        super().__post_init__()
        share = self.validation_split_percentage
        require(0 <= share <= 50, f"validation_split_percentage={share}: must be from 0 to 50")
        at_least(self, 3, "max_seq_length")  # [CLS], a token, [SEP]
        require(0 <= self.short_seq_prob <= 1, f"short_seq_prob={self.short_seq_prob}: must be from 0 to 1")
        at_least(self, 1, "vocab_size")
        require(
            not (self.train_tokenizer and self.tokenizer_name),
            f"train_tokenizer with tokenizer_name={self.tokenizer_name!r}: give one of them "
            "(--train_tokenizer false --vocab_size none)",
        )
        require(
            self.train_tokenizer == (self.vocab_size is not None),
            f"train_tokenizer={self.train_tokenizer}, vocab_size={self.vocab_size}: they go together "
            "(or are false and none)",
        )


@dataclass
class WeightsArguments:
    """The model."""

    config_name: str | None = option(None, "From scratch: tiny, mini, small, base, large, or a folder's config.json.")
    model_name_or_path: str | None = option(None, "Weights to start from: any BERT or SpanBERT.")
    hidden_dropout_prob: float | None = option(None, "Dropout; none: the configuration's.")
    attention_probs_dropout_prob: float | None = option(
        None, "Dropout of attention weights; none: the configuration's."
    )

    def __post_init__(self):
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, f"{name}={value}: must be in [0, 1)")

    def config_changes(self) -> dict[str, Any]:
        """What differs from the configuration that the model starts from."""
        places = {"config_name", "model_name_or_path"}
        return {name: value for name, value in asdict(self).items() if name not in places and value is not None}


@dataclass
class ModelArguments(WeightsArguments):
    """The model."""

    objectives: list[str] | None = option(None, "Of mlm, nsp, sbo; none: the configuration's, by default mlm sbo.")


@dataclass
class MaskingArguments:
    """Which tokens are masked (Section 3.1)."""

    masking_scheme: str = option("geometric_spans", "A name of MASKING_SCHEMES.")
    mask_ratio: float = option(0.15, "Share of a row's tokens that is masked.")
    p: float = option(0.2, "Span lengths in words ~ Geo(p).")
    max_span_length: int = option(10, "Longest span, in words.")
    complete_words: bool = option(True, "Never cuts a word; false: cut at the budget, as the released code.")
    num_static_masks: int | None = option(
        None, "Masks of a sequence that are used in turn; none: new ones in each pass."
    )

    def __post_init__(self):
        _in_unit_interval(self, "mask_ratio", "p")
        at_least(self, 1, "max_span_length", "num_static_masks")

    def scheme(self) -> Any:
        """The scheme of `modeling_spanbert.masking` with these options. Raises ValueError for an unknown one."""
        from modeling_spanbert import MASKING_SCHEMES

        scheme = MASKING_SCHEMES[self.masking_scheme]
        return scheme(**{f.name: getattr(self, f.name) for f in fields(scheme)})

    @property
    def annotation(self) -> str | None:
        """The spans that an example has to bring. Raises ValueError for an unknown scheme."""
        return self.scheme().annotation

    def check(self, objectives: Sequence[str], data: DataArguments) -> None:
        """Raises ValueError for an unknown scheme, and where masking, objectives and data do not go together."""
        annotation, max_seq_length = self.annotation, data.max_seq_length
        require(
            annotation is None or data.annotation_file is not None,
            f"masking_scheme={self.masking_scheme} masks annotated spans, but annotation_file is missing: make one "
            "with python -m training.annotate",
        )
        require(
            annotation is not None or data.annotation_file is None,
            f"annotation_file={data.annotation_file} with masking_scheme={self.masking_scheme}, which reads none: "
            "leave it out, or use named_entities or noun_phrases",
        )
        require(
            "nsp" in objectives or not data.short_seq_prob,
            f"short_seq_prob={data.short_seq_prob} with objectives={list(objectives)}: only two-sequence blocks "
            "(objective nsp) are shortened; set it to 0",
        )
        mean = self.scheme().mean_span_length
        require(
            mean <= max_seq_length - 2,
            f"p={self.p}, max_span_length={self.max_span_length}: spans of {mean:.2f} words on average are longer "
            f"than a row of max_seq_length={max_seq_length}; lower max_span_length",
        )
        require(
            not ("sbo" in objectives and self.masking_scheme == "subwords"),
            "objectives has sbo, but masking_scheme=subwords masks single tokens, which have no span boundary; "
            "set objectives to mlm",
        )


@dataclass
class UpdateArguments:
    """Updates with AdamW, whatever their number."""

    learning_rate: float = option(1e-4, "Peak of the schedule.")
    global_batch_size: int = option(256, "Rows an update, over all processes and accumulation.")
    per_device_train_batch_size: int = option(8, "Rows a forward pass; accumulation follows from it.")
    weight_decay: float = option(0.1, "Decoupled weight decay; the paper's (the released command says 0.01).")
    decay_biases_and_layer_norms: bool = option(False, "Decays every parameter, as the original code.")
    adam_beta1: float = option(0.9, "Adam's first decay.")
    adam_beta2: float = option(0.999, "Adam's second decay.")
    adam_epsilon: float = option(1e-8, "Adam's epsilon.")
    max_grad_norm: float = option(1.0, "Gradients are scaled down to this norm; 0: never.")
    mixed_precision: str = option("no", "bf16: computes in bf16, with fp32 weights.", ("no", "bf16"))

    def __post_init__(self):
        for name in ("learning_rate", "adam_epsilon"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"{name}={value}: must be positive")
        for name in ("weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"{name}={value}: must not be negative")
        for name in ("adam_beta1", "adam_beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name}={value}: must be in [0, 1)")
        at_least(self, 1, "global_batch_size", "per_device_train_batch_size")

    def gradient_accumulation_steps(self, num_processes: int) -> int:
        """Forward passes an update in each process. Raises ValueError where the global batch does not divide."""
        per_step = self.per_device_train_batch_size * num_processes
        if self.global_batch_size % per_step:
            raise ValueError(
                f"global_batch_size={self.global_batch_size} is not a multiple of per_device_train_batch_size="
                f"{self.per_device_train_batch_size} x {num_processes} processes = {per_step}; "
                f"the nearest that is: {self.global_batch_size // per_step * per_step or per_step}"
            )
        return self.global_batch_size // per_step


@dataclass
class OptimizationArguments(UpdateArguments):
    """Updates: AdamW with linear warm-up and decay (Section 4.2)."""

    num_warmup_steps: int = option(10_000, "Updates until the peak, linearly from 0.")
    max_train_steps: int = option(2_400_000, "Updates of the whole schedule; the learning rate ends at 0.")
    stop_after_step: int | None = option(None, "Ends the run earlier, inside the same schedule.")
    torch_compile: bool = option(False, "Compiles the training step, in minutes at its start; does not pay on a CPU.")

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 0, "num_warmup_steps")
        at_least(self, 1, "max_train_steps", "stop_after_step")
        require(
            (self.stop_after_step or 1) <= self.max_train_steps,
            f"stop_after_step={self.stop_after_step} is beyond max_train_steps={self.max_train_steps}",
        )

    @property
    def last_step(self) -> int:
        """Updates after which the run ends."""
        return self.stop_after_step or self.max_train_steps

    def parts(self, model: Any) -> list[tuple["OptimizationArguments", list]]:
        """The schedule of each part of the model, with the part's parameters by name: here, all have this one."""
        return [(self, list(model.named_parameters()))]

    def decay(self, step: int) -> float:
        """The share of the peak that is left after `step` updates, the warm-up being over: counted from the start."""
        return max(0, self.max_train_steps - step) / self.max_train_steps

    def notes(self) -> list[str]:
        """What is allowed, but should be seen before the run."""
        if self.num_warmup_steps > self.last_step:
            return [f"the run ends after {self.last_step} steps, inside its warm-up of {self.num_warmup_steps} steps"]
        return []


@dataclass
class RunArguments:
    """The run: output, checkpoints, logging."""

    output_dir: str | None = option(None, "Folder of the run: checkpoints, metrics, export.")
    seed: int = option(42, "Of everything random: weights, order, masks, dropout.")
    resume_from_checkpoint: str | None = option(
        None, "auto: the newest that verifies, if any; or a checkpoint's folder."
    )
    checkpointing_steps: int | None = option(None, "A checkpoint each N steps; none: at the end and when stopped.")
    checkpoints_total_limit: int | None = option(2, "How many checkpoints are kept; none: all.")
    logging_steps: int = option(10, "A line of metrics each N steps.")
    eval_steps: int | None = option(None, "Evaluates on held-out text each N steps; none: at the end.")
    per_device_eval_batch_size: int = option(8, "Rows a forward pass in evaluation.")
    dataloader_num_workers: int = option(0, "Processes that mask and collate; 0: the training process itself.")
    report_to: str | None = option(
        None, "A tracker of accelerate's, such as tensorboard; metrics.jsonl is always there."
    )
    gradient_checkpointing: bool = option(False, "Less memory for about a third more time.")
    push_to_hub: bool = option(False, "Pushes the export at the end.")
    hub_model_id: str | None = option(None, "Repository to push to: NAME or OWNER/NAME.")
    hub_private_repo: bool = option(False, "Creates it as a private one.")
    hub_revision: str | None = option(None, "Branch to push to; none: main.")
    check: bool = option(False, "Checks everything, prints the plan, writes nothing.")
    debug: bool = option(False, "Shows tracebacks instead of one-line errors.")

    def __post_init__(self):
        require(bool(self.output_dir) or self.check, "output_dir is missing: give --output_dir FOLDER")
        require(0 <= self.seed < 2**32, f"seed={self.seed}: must be from 0 to 2**32 - 1")
        at_least(self, 0, "dataloader_num_workers")
        at_least(self, 1, "checkpointing_steps", "checkpoints_total_limit", "logging_steps", "eval_steps")
        at_least(self, 1, "per_device_eval_batch_size")
        require(
            not (self.push_to_hub and not self.hub_model_id), "push_to_hub without hub_model_id: name the repository"
        )


# What a pre-training run takes, in the order in which `parse_recipe` returns it.
PRETRAINING = (DataArguments, ModelArguments, MaskingArguments, OptimizationArguments, RunArguments)


@contextlib.contextmanager
def in_every_process() -> Iterator[None]:
    """Marks errors inside as raised by every process alike: the first one of each machine tells them, once.

    Also a decorator.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        error.in_every_process = True
        raise


@in_every_process()
def parse_recipe(argument_types: Sequence[type], argv: Sequence[str] | None = None, description: str = "") -> tuple:
    """An instance of each class in `argument_types`, from the recipe and options in `argv` (default: sys.argv[1:]).

    Raises ValueError or FileNotFoundError, in one line, for anything that is unknown, misspelt, abbreviated or of
    another type; `--help` prints every field with its default and exits.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    known = {f.name: (f, hint) for kind in argument_types for f, hint in _fields(kind)}
    given, recipe = _parse_argv(argument_types, known, argv, description)
    values = read_recipe(recipe) if recipe is not None else {}
    for name in values:
        if name not in known:
            raise ValueError(f"{_unknown(str(name), known)} ({recipe})")
    values |= given
    values = {name: _convert(name, value, *known[name]) for name, value in values.items()}
    return tuple(kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values}) for kind in argument_types)


def read_recipe(path: str | Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a recipe as YAML gives them, `extends:` followed. Raises ValueError or FileNotFoundError."""
    path = Path(path)
    if not os.path.isfile(path):  # False, too, for what can be no name of a file
        by = f" ({extended_by[-1]} extends it)" if extended_by else ""
        raise FileNotFoundError(f"no recipe {repr(str(path))[1:-1]:.300}{_nearest_recipes(path)}{by}")
    if path.resolve() in extended_by:
        raise ValueError(f"recipe {path} extends itself: {' -> '.join(p.name for p in (*extended_by, path))}")
    try:
        with path.open(encoding="utf-8") as file:
            values = yaml.load(file, _RecipeLoader)  # noqa: S506, a SafeLoader
    except UnicodeDecodeError:
        raise ValueError(f"recipe {path} is not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"recipe {path} is nested too deeply; expected a mapping of fields to values") from None
    if not isinstance(values, dict):
        raise ValueError(f"recipe {path} is not a mapping of fields to values, but {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ValueError(f"extends={base!r:.60} in {path}: expected the path of one recipe")
    return read_recipe(path.parent / base, (*extended_by, path.resolve())) | values


def resolved(*arguments: Any) -> dict[str, Any]:
    """Every field with its final value, for run.json; `read_recipe` reads it back."""
    return {name: value for instance in arguments for name, value in asdict(instance).items()}


def one_line_errors(main: Callable) -> Callable:
    """Wraps `main(argv=None)`: a user's error (ValueError, OSError) is one line on stderr and exit status 2.

    With `--debug` among the arguments the traceback comes first. Other exceptions are bugs of ours and pass. Of
    several processes, the first of each machine tells what stops them all (see `in_every_process`).
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None):
        try:
            return main(argv)
        except (ValueError, OSError) as error:
            if getattr(error, "in_every_process", False) and os.environ.get("LOCAL_RANK", "0") != "0":
                # The launcher ends all processes as soon as one has ended: after the one that tells.
                time.sleep(SILENT_SECONDS)
                raise SystemExit(2) from None
            if any(word.split("=")[0] == "--debug" for word in (sys.argv[1:] if argv is None else argv)):
                traceback.print_exc()
            lines = str(error).strip().splitlines() or [type(error).__name__]
            print(f"error: {lines[0]}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapped


class _RecipeLoader(yaml.SafeLoader):
    """YAML without surprises: plain data only, and a key that is given twice is an error.

    So is an alias, of which some make a value without end; and a date is text.
    """

    yaml_implicit_resolvers: typing.ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"*{event.anchor} is an alias: write it out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_object(self, node, deep=False):
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                str(value)  # a ValueError where it has thousands of digits, in hexadecimal too
            if isinstance(value, str) and b"\0" in value.encode():  # a ValueError for half of a surrogate pair
                raise ValueError
            return value
        except (ValueError, LookupError, AttributeError, TypeError):  # of tags such as !!int before another value
            what = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.constructor.ConstructorError(None, None, "a field is no name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!s:.60} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def _parse_argv(argument_types, known, argv, description) -> tuple[dict[str, Any], str | None]:
    """What the command line gives: fields with values as strings, lists or True, and the recipe's path."""
    # Before argparse, which would take the value of an unknown option for the recipe.
    for word in argv:
        name = word[2:].split("=")[0]
        if word.startswith("--") and name not in known and name != "help":
            raise ValueError(_unknown(name, known))
    parser = _Parser(
        usage="%(prog)s [RECIPE.yaml] [--field value ...]",
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--field alone means true; `none` means none. Options override the recipe.",
    )
    parser.add_argument(
        "recipe", metavar="RECIPE.yaml", nargs="?", default=None, help="fields of this run; goes first"
    )
    for kind in argument_types:
        group = parser.add_argument_group((kind.__doc__ or kind.__name__).strip().splitlines()[0].rstrip("."))
        for f, hint in _fields(kind):
            arity = {"nargs": "+"} if list in _kinds(hint) else {"nargs": "?", "const": True} if hint is bool else {}
            metavar = "{" + ",".join(f.metadata["choices"]) + "}" if f.metadata.get("choices") else _metavar(hint)
            default = f.default if f.default is not MISSING else f.default_factory()
            shown = str(default).lower() if default is None or isinstance(default, bool) else default
            help_text = f"{f.metadata['help']} (default: {shown})".replace("%", "%%")
            group.add_argument(f"--{f.name}", metavar=metavar, help=help_text, **arity)
    given = vars(parser.parse_args(argv))
    return given, given.pop("recipe")


def _fields(kind: type) -> list[tuple[Field, Any]]:
    hints = typing.get_type_hints(kind)
    return [(f, hints[f.name]) for f in fields(kind)]


def _kinds(hint: Any) -> list[type]:
    """The types a field may have: `list[str] | None` -> [list, NoneType]."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [typing.get_origin(member) or member for member in members]


def _member(hint: Any) -> type:
    """`list[str] | None` -> str."""
    lists = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return typing.get_args(lists[0])[0]


def _metavar(hint: Any) -> str:
    kind = _kinds(hint)[0]
    return {bool: "BOOL", int: "N", float: "X", str: "TEXT"}[_member(hint) if kind is list else kind]


def _convert(name: str, value: Any, f: Field, hint: Any) -> Any:
    """`value`, from YAML or a command line, as the field's type. Raises ValueError naming field, value and type."""
    kind, optional = _kinds(hint)[0], types.NoneType in _kinds(hint)
    choices = f.metadata.get("choices")
    if value in (["none"], "none", None) and optional:
        return None
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    expected = f"a list of {expected[_member(hint)].removeprefix('a ')}s" if kind is list else expected[kind]
    try:
        if kind is list:
            members = value if isinstance(value, list) else [value]
            if members and (_member(hint) is not str or all(isinstance(member, str) for member in members)):
                return [_convert(name, member, f, _member(hint)) for member in members]
        elif kind is str:
            if value is False and "no" in (choices or ()):  # YAML reads an unquoted no as false
                value = "no"
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                value = str(value)
                if not choices or value in choices:
                    return value
                expected = f"one of {', '.join(choices)}"
        elif kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            number = float(value)  # YAML reads 1e-4, without a point, as text
            if kind is float:
                return number
            if number.is_integer():
                return int(number) if abs(number) < 2**53 else int(value)
    except (ValueError, KeyError, OverflowError):
        pass
    given = repr(value)[1:-1] if isinstance(value, str) else json.dumps(value, default=str)
    raise ValueError(f"{name}={given:.200}: expected {expected}")


def _unknown(name: str, known: typing.Iterable[str]) -> str:
    """The message for a field that does not exist, with the nearest name that does."""
    # A prefix is nearer than what difflib finds: --learning means learning_rate, though abbreviations are refused.
    plain = re.sub("-", "_", name)
    nearest = [k for k in known if plain and k.startswith(plain)] or difflib.get_close_matches(plain, known, 1, 0.5)
    return f"unknown field {name!r:.80}" + (f"; closest: {nearest[0]}" if nearest else "; --help lists the fields")


def _nearest_recipes(path: Path) -> str:
    """`; closest: ...`, from the recipe's folder and the recipes that come with the code."""
    beside = path.parent.glob("*.yaml") if os.path.isdir(path.parent) else []
    there = {recipe.name: recipe for recipe in [*RECIPES.rglob("*.yaml"), *beside]}
    names = difflib.get_close_matches(f"{path.stem}.yaml", there, 3, 0.6) or sorted(there)
    return f"; closest: {', '.join(_relative(there[name]) for name in names)}" if names else ""


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
