"""A trained model -> what goes to the Hub: weights, tokenizer, code, card.

    folder = export(model, tokenizer, "runs/tiny/export", run, results)
    hub.push(folder, "your-org/spanbert-tiny-cased")

An export loads with `trust_remote_code=True` where this package is not installed, because it carries its own code.
It is read back before it takes its place, in this process and in one that cannot import the package. Its card is
rendered from its `results.json` alone; `python -m modeling_spanbert.export model_cards/results/ID.json` does so again.
"""

import inspect
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jinja2
import torch
from huggingface_hub import EvalResult, ModelCardData
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .configuration_spanbert import AUTO_CLASSES
from .files import decode_json
from .modeling_spanbert import SpanBertForQuestionAnswering
from .question_answering import SpanBertQuestionAnsweringPipeline


MODEL_CARDS = Path(__file__).parent.parent / "model_cards"
TEMPLATE, FINETUNED_TEMPLATE, CONVERTED_TEMPLATE = "template.md", "finetuned.md", "converted.md"
logger = logging.getLogger(__name__)

# What a reader of the card pastes; it is run on the export before it is written into the card.
SNIPPET = """\
from transformers import pipeline

fill = pipeline("fill-mask", model={model}, trust_remote_code=True)
for guess in fill({text}):
    print(f"{guess['score']:.3f}  {guess['sequence']}")
"""
EXAMPLE_TEXT = "The people of the United {mask_token} want peace."

# A process that has never seen this package: loads every Auto class of `auto_map`, then saves the probe's outputs.
BLOCK = """\
import sys
sys.modules.update(dict.fromkeys(("modeling_spanbert", "training", "eval"), None))
"""
CLEAN_PROCESS = """\
import safetensors.torch, torch, transformers
folder, probe, outputs = sys.argv[1:]
config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
for auto_class, reference in config.auto_map.items():
    load = getattr(transformers, auto_class).from_pretrained
    loaded = load(folder, trust_remote_code=True, attn_implementation="eager")
    if reference.endswith("." + config.architectures[0]):
        with torch.no_grad():
            found = loaded.eval()(**safetensors.torch.load_file(probe))
        found = {key: value.contiguous() for key, value in found.items() if torch.is_tensor(value)}
        safetensors.torch.save_file(found, outputs)
"""


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    output_dir: str | os.PathLike,
    run: dict,
    results: dict,
    in_clean_process: bool = True,
    files: Mapping[str, str] | None = None,
) -> Path:
    """Writes and verifies what goes to the Hub; an older export is replaced only by a verified one.

    `files`: what else belongs into the repository, as text by place (".eval_results/squad.yaml").
    `in_clean_process=False` leaves out the part that starts a second Python (seconds): then no example is in the card.
    Call it in one process, with the unwrapped model; keys of `run` and `results`: see `render_card`.

    Raises:
        ValueError: weights hold NaN or Inf, the tokenizer has no mask token or no fast form, or `output_dir` holds
            something else.
        RuntimeError: what was written does not read back as the model (nothing is left of it).
    """
    output_dir = Path(output_dir)
    refuse_non_finite(model)
    tokenizer_facts = describe_tokenizer(tokenizer)
    if (
        output_dir.exists()
        and not (output_dir / "config.json").is_file()
        and (output_dir.is_file() or any(output_dir.iterdir()))
    ):
        raise ValueError(f"{output_dir} holds something that is not an export; give another folder or move it away")

    partial, older = Path(f"{output_dir}.partial"), Path(f"{output_dir}.older")
    if older.exists() and not output_dir.exists():
        older.rename(output_dir)  # an earlier export was killed between its two renames
    for leftover in (partial, older):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save(model, tokenizer, partial)
        reloaded = verify(model, partial)
        text = EXAMPLE_TEXT.format(mask_token=tokenizer.mask_token)
        source = usage(run, str(partial), text)
        example = None
        if in_clean_process:
            output = verify_remote_code(partial, reloaded, "" if needs_package(source) else source)
            if needs_package(source):
                output = run_python(source, partial)
            example = {"text": text, "output": output}

        run = run | {"model": describe(model), "tokenizer": tokenizer_facts, "from_hub": from_hub(run)}
        results = results | {"example": example}
        (partial / "README.md").write_text(render_card(run, results), encoding="utf-8")
        (partial / "results.json").write_text(to_json(run, results), encoding="utf-8")
        for name, text in (files or {}).items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        flush(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise

    if output_dir.exists():
        output_dir.rename(older)
    partial.rename(output_dir)
    shutil.rmtree(older, ignore_errors=True)
    return output_dir


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """With the modelling file and its flat siblings; for question answering also with the pipeline that answers."""
    if type(model) is SpanBertForQuestionAnswering:
        SpanBertQuestionAnsweringPipeline(model, tokenizer).save_pretrained(folder)
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def refuse_non_finite(model: PreTrainedModel) -> None:
    bad = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ValueError(f"refusing to export weights with NaN or Inf: {bad[0]} ({len(bad)} tensors in all)")


def describe(model: PreTrainedModel) -> dict:
    """What the card says of the architecture."""
    fields = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "objectives")
    return {field: getattr(model.config, field) for field in fields} | {"num_parameters": model.num_parameters()}


def describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict:
    """What the card says of the tokenizer. Raises ValueError where it cannot be the one of an export."""
    if not tokenizer.is_fast or tokenizer.mask_token is None:
        lacking = "mask token" if tokenizer.is_fast else "fast form (tokenizer.json)"
        raise ValueError(f"the tokenizer has no {lacking}; give the one that the model was trained with")
    backend = tokenizer.backend_tokenizer
    kind = type(backend.model).__name__  # "WordPiece", "BPE", "Unigram", "WordLevel"
    # Unescaped, so not a piece of the vocabulary.
    byte_level = '"type":"ByteLevel"' in backend.to_str()
    normalize = backend.normalizer.normalize_str if backend.normalizer else str
    return {
        "kind": f"byte-level {kind}" if byte_level else kind,
        "num_pieces": len(tokenizer),
        "lower_cases": normalize("A") == normalize("a"),
        "mask_token": tokenizer.mask_token,
    }


def from_hub(run: dict) -> dict[str, str | None]:
    """The data set and the first weights of a run where they are names on the Hub: not folders of this machine."""
    of_task = (run["data"].get("hub") or [None])[0]
    dataset = run["arguments"].get("dataset_name") or of_task
    names = {"dataset": dataset, "base_model": run["arguments"]["model_name_or_path"]}
    return {key: name if name and not Path(name).expanduser().exists() else None for key, name in names.items()}


def to_json(run: dict, results: dict) -> str:
    return json.dumps({"run": run, "results": results}, indent=2, ensure_ascii=False) + "\n"


def flush(folder: Path) -> None:
    """Asks the disk to keep every file of `folder`, and their names."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


# Reading back


def probe_batch(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Two rows (2, 12), the second padded; with a span (3, 5), entities at 2 and 6, or words, as the model takes."""
    input_ids = torch.arange(1, 25).view(2, 12) % model.config.vocab_size
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 8:] = 0
    batch = {"input_ids": input_ids, "attention_mask": attention_mask}
    parameters = inspect.signature(model.forward).parameters
    if "subject_index" in parameters:
        batch |= {"subject_index": torch.tensor([2, 2]), "object_index": torch.tensor([6, 6])}
    if "sentence_map" in parameters:  # one document, each row a sentence and each piece a word
        batch |= {
            "sentence_map": torch.arange(2)[:, None].expand(2, 12).contiguous(),
            "word_map": torch.arange(24).view(2, 12),
            "speaker_ids": torch.arange(24).view(2, 12) % 2,
        }
    if "span_position" in parameters and "sbo" in model.config.objectives:
        span = (torch.arange(12) >= 3) & (torch.arange(12) <= 5)  # (12,)
        places = (torch.arange(12) - 3).clamp(max=model.config.max_span_positions - 1)
        for name, values in {
            "left_boundary": span * 2,
            "right_boundary": span * 6,
            "span_position": torch.where(span, places, -1),
        }.items():
            batch[name] = values.expand(2, 12).contiguous()
    return batch


@torch.no_grad()
def probe_outputs(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Every tensor that the model gives for the probe, without dropout; the model is left as it was.

    Always on the CPU with eager attention: other devices and kernels round differently, by more than the tolerance.
    """
    device, training, attention = model.device, model.training, model.config._attn_implementation
    model.to("cpu").eval().set_attn_implementation("eager")
    try:
        outputs = model(**probe_batch(model), return_dict=True)
    finally:
        model.to(device).train(training).set_attn_implementation(attention)
    return {key: value for key, value in outputs.items() if torch.is_tensor(value)}


def verify(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model as read back from `folder` (on the CPU), once it is sure that it is `model`.

    Raises:
        RuntimeError: a tensor is missing, left over or different, outputs differ, or `auto_map` names absent code.
    """
    auto_map = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auto_map", {})
    for auto_class in ("AutoConfig", *AUTO_CLASSES):
        module = auto_map.get(auto_class, "nothing").split(".")[0]
        if not (folder / f"{module}.py").is_file():
            raise RuntimeError(f"{folder}: auto_map says {auto_map.get(auto_class)!r} for {auto_class}: no such file")

    reloaded, info = type(model).from_pretrained(folder, output_loading_info=True)
    problems = {key: names for key, names in info.items() if names}
    if problems:
        raise RuntimeError(f"{folder} does not read back: {problems}")
    saved, read = model.state_dict(), reloaded.state_dict()
    different = [name for name, tensor in saved.items() if not torch.equal(tensor.cpu(), read[name].cpu())]
    if different or len(saved) != len(read):
        raise RuntimeError(f"{folder} does not read back: {different or sorted(set(saved) ^ set(read))} differ")

    compare(probe_outputs(model), probe_outputs(reloaded), folder)
    return reloaded


def verify_remote_code(folder: Path, model: PreTrainedModel, source: str = "") -> str:
    """Opens an export by every Auto class, with its own code, in a process where this package cannot be imported.

    Compares the outputs with those of `model`. Returns what `source`, the card's snippet, prints there.

    Raises:
        RuntimeError: it does not load, or gives other outputs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        probe, found = f"{scratch}/probe.safetensors", f"{scratch}/outputs.safetensors"
        save_file(probe_batch(model), probe)
        printed = run_python(BLOCK + source + CLEAN_PROCESS, folder, probe, found)
        compare(probe_outputs(model), load_file(found), folder)
    return printed


def run_python(source: str, folder: Path, *arguments: str) -> str:
    """What `source` prints, in a Python of its own, offline, on the CPU and with no code cached of other exports.

    `folder` and `arguments` are its command line. Raises RuntimeError, with its last line, where it fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        environment = os.environ | {
            "HF_MODULES_CACHE": scratch,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONIOENCODING": "utf-8",  # a byte-level vocabulary guesses more than ASCII
        }
        process = subprocess.run(  # noqa: S603 - our own text, this Python
            [sys.executable, "-c", source, str(folder), *arguments],
            env=environment,
            capture_output=True,
            encoding="utf-8",
        )
    if process.returncode:
        last_line = (process.stderr.strip().splitlines() or ["no message"])[-1]
        where = "" if needs_package(source) else " without the package"
        raise RuntimeError(f"{folder} does not load{where}: {last_line}")
    return process.stdout.strip()


def compare(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], folder: Path) -> None:
    for key, value in expected.items():
        if key not in found or not torch.allclose(value.float(), found[key].float(), rtol=1e-5, atol=1e-5):
            raise RuntimeError(f"{folder} does not read back: {key} of the probe differs")


# The card


def usage(run: dict, model: str, text: str) -> str:
    """The snippet of the card: `run["usage"]` of a fine-tuned model, else one that fills the mask of `text`."""
    return run.get("usage", SNIPPET).replace("{model}", json.dumps(model)).replace("{text}", json.dumps(text))


def needs_package(source: str) -> bool:
    return "import modeling_spanbert" in source or "from modeling_spanbert" in source


def render_card(run: dict, results: dict) -> str:
    """The model card, from nothing but these two; a key that is missing is an error, never a blank.

    `run`: `model_id`, `command`, `arguments` (resolved fields of the recipe, by name), `versions` ({name: version}),
    `hardware` (a phrase), `data`, and what `export` adds: `model` (`describe`), `tokenizer` (`describe_tokenizer`) and
    `from_hub`. `results`: `step`, `num_tokens_seen`, `wall_seconds` (all starts of the run together), and `example`,
    which `export` adds (None, or {"text", "output"}).

    Of a pre-trained model `data` has "files" ([str]), "num_documents", "num_tokens", "num_rows", "padding_share" (0-1)
    and "fingerprint", and `results` has `held_out` (None, or what `eval.held_out.held_out_scores` returns: losses in
    nats, accuracies 0-1) and, where tasks and filling were tried, `downstream` and `span_filling`.

    Of a fine-tuned one `run` has `task` ({"name", "pipeline_tag", "metric", "settings"}) and `usage` (Python with
    {model} for the model's name), `data` has "files" or "hub", "splits", "num_examples", "num_validation_examples",
    "num_rows", "mean_length", "notes" and "fingerprint", and `results` has `best_step`, `results` and `baseline` (rows
    as those of eval/run.py: {"task", "split", "n", "metric", "value"}) and, where the paper has figures of the task,
    `paper` (rows of `eval.paper_scores.published`).

    Of a converted one, of which nothing is known but its files, `run` has `usage`, `converted` ({"source", "file",
    "sha256", "model_class", "pipeline_tag", "told"}: see `convert_original_checkpoint.run_record`), an empty `data`,
    and no `hardware`; `results` has `example` alone.
    """
    arguments = run["arguments"]
    example = results["example"]
    text = example["text"] if example else EXAMPLE_TEXT.format(mask_token=run["tokenizer"]["mask_token"])
    source = usage(run, run["model_id"], text)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(MODEL_CARDS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown, not HTML
    )
    for name, form in {"number": "{:,}", "percent": "{:.1%}", "loss": "{:.3f}", "figure": "{:.4g}"}.items():
        # Adding 0 makes a missing key say its name.
        environment.filters[name] = lambda value, form=form: form.format(value + 0)
    environment.filters["without_folders"] = without_folders
    if "converted" in run:
        name, metadata = CONVERTED_TEMPLATE, converted_metadata(run)
    elif "task" in run:
        name, metadata = FINETUNED_TEMPLATE, finetuned_metadata(run, results)
    else:
        name, metadata = TEMPLATE, pretrained_metadata(run, results)
    return environment.get_template(name).render(
        metadata=metadata.to_yaml(),
        snippet=source.rstrip(),
        needs_package=needs_package(source),
        baseline={row["metric"]: row["value"] for row in results.get("baseline", [])},
        run=run,
        results=results,
        arguments=arguments,
    )


def pretrained_metadata(run: dict, results: dict) -> ModelCardData:
    return ModelCardData(
        pipeline_tag="fill-mask",
        tags=["spanbert", "bert", "span-masking", "pretraining"],
        metrics=["accuracy"],
        **common_metadata(run),
    )


def finetuned_metadata(run: dict, results: dict) -> ModelCardData:
    """With the score on the Hub's development set as model-index, which the Hub shows beside the card."""
    task, data = run["task"], run["data"]
    dataset, config = (*(data["hub"] or ()), None, None)[:2]
    scores = [
        EvalResult(
            task_type=task["pipeline_tag"],
            dataset_type=dataset,
            dataset_name=task["name"],
            dataset_config=config,
            dataset_split=row["split"],
            metric_type=row["metric"],
            metric_value=row["value"],
        )
        for row in results["results"]
        if dataset and row["metric"] == task["metric"] and row["value"] is not None
    ]
    return ModelCardData(
        pipeline_tag=task["pipeline_tag"],
        tags=["spanbert", "bert", task["name"]],
        metrics=[task["metric"]],
        model_name=run["model_id"].split("/")[-1] if scores else None,
        eval_results=scores or None,
        **common_metadata(run),
    )


def converted_metadata(run: dict) -> ModelCardData:
    """Without a licence: it is that of whoever trained the weights."""
    return ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag=run["converted"]["pipeline_tag"],
        tags=["spanbert", "bert", "converted"],
        base_model=run["from_hub"]["base_model"],
    )


def common_metadata(run: dict) -> dict:
    """What every card's metadata has."""
    dataset = run["from_hub"]["dataset"]
    return {
        "language": "en",
        # Weights that continue someone else's are theirs to license.
        "license": None if run["arguments"]["model_name_or_path"] else "apache-2.0",
        "library_name": "transformers",
        "base_model": run["from_hub"]["base_model"],
        "datasets": [dataset] if dataset else None,
    }


def without_folders(name: str) -> str:
    """An absolute path without the folders of the machine it was on; anything else as it is."""
    path = Path(name)
    return path.name if path.is_absolute() else name


def readdress(export_dir: Path, hub_model_id: str) -> None:
    """Makes an export's results.json and card name `hub_model_id`, where the card is what results.json gives."""
    card, record = export_dir / "README.md", export_dir / "results.json"
    if not record.is_file():  # not written by `export`
        return
    try:
        content = decode_json(record.read_bytes())
        run, results = content["run"], content["results"]
        here = run | {"model_id": hub_model_id}
        rendered = render_card(here, results)
        # The second is the card of a push that was killed between the two files.
        ours = card.read_text(encoding="utf-8") in (render_card(run, results), rendered)
    except (ValueError, KeyError, TypeError, jinja2.TemplateError):
        ours = False
    if not ours:
        logger.warning("%s is pushed as it is: it is not the card that %s gives", card, record.name)
    elif run["model_id"] != hub_model_id:
        write_whole(card, rendered)
        write_whole(record, to_json(here, results))


def write_whole(path: Path, text: str) -> None:
    """Replaces a file by one that is complete on the disk."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main(paths: list[str]) -> None:
    """Renders model_cards/ID.md from each model_cards/results/ID.json."""
    for path in map(Path, paths):
        record = json.loads(path.read_text(encoding="utf-8"))
        card = path.parent.parent / f"{path.stem}.md"
        card.write_text(render_card(record["run"], record["results"]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
