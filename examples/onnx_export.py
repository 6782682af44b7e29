"""A fine-tuned head as ONNX, for runtimes without PyTorch, checked with onnxruntime before it is kept.

    pip install -e ".[onnx]"
    python examples/onnx_export.py runs/squad_v2/export squad_v2.onnx

Takes models for question answering, sequence and token classification. The graph takes `input_ids`, `attention_mask`
and `token_type_ids`, (batch, tokens) each, of any batch and as many tokens as the model has positions. Its logits
become answers or labels as always (`modeling_spanbert/question_answering.py`, `config.id2label`).
"""

import argparse
import sys
from pathlib import Path

import onnxruntime
import torch
from torch.export import Dim
from transformers import AutoConfig, PreTrainedModel

import modeling_spanbert


HEADS = ("SpanBertForQuestionAnswering", "SpanBertForSequenceClassification", "SpanBertForTokenClassification")
TOLERANCE = 1e-4


def load(folder: str) -> PreTrainedModel:
    """The model of an export, with its own head, in fp32. Raises ValueError for a head that is none of `HEADS`."""
    head = (AutoConfig.from_pretrained(folder).architectures or ["nothing"])[0]
    if head not in HEADS:
        raise ValueError(f"{folder} is a {head}, expected one of {', '.join(HEADS)}")
    return getattr(modeling_spanbert, head).from_pretrained(folder, dtype=torch.float32).eval()


def batch(model: PreTrainedModel, num_rows: int, num_tokens: int) -> dict[str, torch.Tensor]:
    """Random pieces (num_rows, num_tokens), in two segments, the last row half padding."""
    generator = torch.Generator().manual_seed(num_rows)
    shape, half = (num_rows, num_tokens), num_tokens // 2
    attention_mask, token_type_ids = torch.ones(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    attention_mask[-1, half + 1 :] = 0
    token_type_ids[:, half:] = 1
    input_ids = torch.randint(model.config.vocab_size, shape, generator=generator)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}


def export(model: PreTrainedModel, path: Path) -> None:
    example = batch(model, 2, 16)
    outputs = [name for name, value in model(**example).items() if torch.is_tensor(value)]
    torch.onnx.export(
        model,
        (),
        path,
        kwargs=example,
        dynamic_shapes={name: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for name in example},
        input_names=list(example),
        output_names=outputs,
        dynamo=True,
        external_data=False,  # one file; ONNX allows 2 GB
        verbose=False,
    )


@torch.no_grad()
def largest_difference(model: PreTrainedModel, path: Path) -> float:
    """Between the logits of the model and those of onnxruntime, over batches of several sizes."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    longest = model.config.max_position_embeddings
    differences = []
    for size in ((1, 8), (2, 16), (3, 50), (2, longest)):
        inputs = batch(model, *size)
        expected = model(**inputs)
        found = session.run(list(expected), {name: value.numpy() for name, value in inputs.items()})
        differences += [
            (torch.from_numpy(logits) - value).abs().max().item()
            for logits, value in zip(found, expected.values(), strict=True)
        ]
    return max(differences)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export_dir", help="folder or repository of a fine-tuned model")
    parser.add_argument("onnx_file", type=Path, help="file to write")
    args = parser.parse_args(argv)
    partial = args.onnx_file.with_name(f"{args.onnx_file.name}.partial")
    try:
        model = load(args.export_dir)
        with torch.no_grad():
            export(model, partial)
        if (difference := largest_difference(model, partial)) > TOLERANCE:
            raise ValueError(f"onnxruntime differs from PyTorch by {difference:.1e}, expected at most {TOLERANCE}")
        partial.replace(args.onnx_file)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        partial.unlink(missing_ok=True)
    size = args.onnx_file.stat().st_size
    print(f"{args.onnx_file}: {size:,} bytes; onnxruntime gives PyTorch's logits to {difference:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
