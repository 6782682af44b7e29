"""Named entities out of relations: a file in TACRED's layout -> sentences with tags, as `--task ner` reads them.

    python examples/entities_of_relations.py data/re/conll04/train.json.gz ner/train.jsonl

An entity of a sentence is what is the subject or the object of one of its examples. Good for data sets that have all
pairs of entities among their examples (relations or not), such as CoNLL04; what is in no pair counts as no entity.
"""

import argparse
import json
import sys
from pathlib import Path

from modeling_spanbert.files import read_json


def tagged_sentences(examples: list[dict]) -> list[dict]:
    """`{"tokens", "tags"}` of each sentence, in the order of their first examples; tags are IOB2.

    Raises ValueError where entities of a sentence overlap, or an entity has two types.
    """
    sentences: dict[tuple[str, ...], dict[tuple[int, int], str]] = {}
    for example in examples:
        entities = sentences.setdefault(tuple(example["token"]), {})
        for role in ("subj", "obj"):
            place, kind = (example[f"{role}_start"], example[f"{role}_end"]), example[f"{role}_type"]
            if entities.setdefault(place, kind) != kind:
                raise ValueError(f"example {example['id']}: words {place} are {entities[place]} and {kind}")
    return [{"tokens": list(words), "tags": tags_of(len(words), entities)} for words, entities in sentences.items()]


def tags_of(num_words: int, entities: dict[tuple[int, int], str]) -> list[str]:
    tags = ["O"] * num_words
    for (start, end), kind in entities.items():
        if any(tag != "O" for tag in tags[start : end + 1]):
            raise ValueError(f"the entity at words {start} to {end} overlaps another one")
        tags[start : end + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start)
    return tags


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="JSON of TACRED's layout")
    parser.add_argument("target", type=Path, help="file to write")
    args = parser.parse_args(argv)
    try:
        sentences = tagged_sentences(read_json(args.source))
        args.target.parent.mkdir(parents=True, exist_ok=True)
        args.target.write_text("".join(json.dumps(each) + "\n" for each in sentences), encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(sentences)} sentences in {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
