"""Prepares text for pre-training: a vocabulary if asked for, token ids, blocks, packed rows.

    python -m training.prepare --train_file wiki.txt books/ --tokenizer_name bert-base-cased --max_seq_length 512
    python -m training.prepare --train_file wiki.txt --train_tokenizer --vocab_size 8000
    python -m training.prepare training/recipes/pretrain/tiny.yaml

`training/pretrain.py` does the same by itself; this is for preparing ahead, or for looking at what a corpus gives.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.arguments import PRETRAINING, DataArguments, ModelArguments, one_line_errors, parse_recipe


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.blocks import Blocks


def prepare(
    data: DataArguments,
    tokenizer: PreTrainedTokenizerBase | None = None,
    objectives: Sequence[str] = (),
    annotation: str | None = None,
) -> tuple[PreTrainedTokenizerBase, Blocks, Blocks | None]:
    """The tokenizer, the blocks of the training text, and those of the held-out text (None where there is none).

    The tokenizer is the one given, or that of `tokenizer_of`. Held out are `data.validation_file`, or
    `data.validation_split_percentage` of the documents. Blocks have two sequences where `objectives` has "nsp", and
    the spans that `annotation` names (`MaskingArguments.annotation`).
    """
    from training.annotations import Annotations
    from training.blocks import prepare_blocks

    tokenizer = tokenizer_of(data) if tokenizer is None else tokenizer

    def blocks_of(files: list[str] | None, is_held_out: bool = False, **reading) -> Blocks:
        return prepare_blocks(
            files,
            tokenizer,
            data.max_seq_length,
            two_sequences="nsp" in objectives,
            short_seq_prob=data.short_seq_prob,
            annotations=Annotations(data.annotation_file, annotation, not is_held_out) if annotation else None,
            cache_dir=data.cache_dir,
            **reading,
        )

    training, held_out = _split(data)
    train = blocks_of(data.train_file, **training)
    validation = None
    if held_out is not None:
        validation = blocks_of(data.validation_file or data.train_file, is_held_out=True, **held_out)
    return tokenizer, train, validation


def tokenizer_of(data: DataArguments) -> PreTrainedTokenizerBase:
    """`data.tokenizer_name`'s, or with `data.train_tokenizer` one learnt from the training text alone."""
    from training.vocabulary import load_tokenizer

    if data.train_tokenizer:
        return _trained_tokenizer(data, _split(data)[0])
    if data.tokenizer_name is None:
        raise ValueError("no tokenizer given; use --tokenizer_name, or --train_tokenizer with --vocab_size")
    return load_tokenizer(data.tokenizer_name)


def _split(data: DataArguments) -> tuple[dict, dict | None]:
    """Keywords of `Corpus` for the training text, and for the held-out text, if there is one."""
    if data.validation_file:
        return data.reading(), data.file_format()
    if data.validation_split_percentage:
        split = data.reading() | {"validation_split_percentage": data.validation_split_percentage}
        return split | {"part": "train"}, split | {"part": "validation"}
    return data.reading(), None


def objectives_of(model: ModelArguments) -> list[str]:
    """The objectives that a run with these arguments has: its own, else those of its configuration or checkpoint."""
    if model.objectives:
        return model.objectives
    from transformers import PreTrainedConfig

    from modeling_spanbert import SIZES, SpanBertConfig

    name = model.model_name_or_path or model.config_name
    if name is None or name in SIZES:
        return SpanBertConfig().objectives
    fields, _ = PreTrainedConfig.get_config_dict(name)
    return fields.get("objectives") or SpanBertConfig().objectives


def _trained_tokenizer(data: DataArguments, training: dict) -> PreTrainedTokenizerBase:
    from training.blocks import FORMAT, cached
    from training.corpus import Corpus
    from training.vocabulary import load_tokenizer, train_tokenizer

    if not data.vocab_size:
        raise ValueError("train_tokenizer needs vocab_size; for example --vocab_size 8000")
    corpus = Corpus(data.train_file, **training)
    description = json.dumps([FORMAT, corpus.fingerprint(), data.vocab_size])
    name = f"tokenizer-{hashlib.sha256(description.encode()).hexdigest()[:32]}"

    def build(folder):
        train_tokenizer(lambda: (document.text for document in corpus.documents()), data.vocab_size).save_pretrained(
            folder
        )

    return load_tokenizer(str(cached(data.cache_dir, name, build)))


def text_facts(blocks: Blocks) -> str:
    """What there is to train on, in a phrase."""
    report = blocks.report
    return (
        f"{report['num_documents']:,} documents, {report['num_tokens']:,} tokens in {len(blocks):,} rows of "
        f"{blocks.max_seq_length} ({report['padding_share']:.1%} padding)"
    )


def describe(name: str, blocks: Blocks) -> str:
    """What was read, made and skipped, in a few lines."""
    report = blocks.report
    skipped = {
        "documents, too short": report["skipped_documents"]["too_short"],
        "damaged files": len(report["skipped_shards"]),
        "tokens, cut from the ends of two-sequence blocks": report.get("num_truncated_tokens", 0),
    }
    lines = [
        f"{name}: {report['num_documents']:,} documents, {report['num_tokens']:,} tokens, "
        f"{report['num_blocks']:,} sequences in {report['num_rows']:,} rows of {blocks.max_seq_length}, "
        f"{report['padding_share']:.1%} padding",
        *(f"{name}: skipped {count:,} {what}" for what, count in skipped.items() if count),
        *(f"{name}: warning: {warning}" for warning in report["warnings"]),
    ]
    return "\n".join(lines)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--output_dir" not in argv:
        argv += ["--output_dir", "unused"]  # a recipe's other fields are read, so that any recipe may be given
    data, model, masking, *_ = parse_recipe(PRETRAINING, argv, __doc__)
    objectives = objectives_of(model)
    masking.check(objectives, data)
    tokenizer, train, validation = prepare(data, None, objectives, masking.annotation)
    print(f"tokenizer: {len(tokenizer):,} pieces")
    print(describe("train", train))
    if validation is not None:
        print(describe("validation", validation))


if __name__ == "__main__":
    main()
