"""Your own text -> who and what it is about: the clusters of coreference, the most often mentioned first.

    python examples/coreference_of_your_text.py runs/coref/export my_text.txt

Prints, for each of the ten largest clusters, how often it is mentioned, what it is called most, and in which sentences
it is; then the text with its pronouns replaced.
"""

import argparse
import sys
from bisect import bisect_right
from collections import Counter
from pathlib import Path

from modeling_spanbert import CoreferenceResolver, CoreferenceResult


SHOWN = 10


def table_of(result: CoreferenceResult) -> list[tuple[int, str, list[int]]]:
    """Mentions, the most frequent name (the longest of equals), and the sentences, from 1, of each cluster."""
    starts = [result.document.words[first][0] for first, _ in result.document.sentences]
    rows = []
    for spans, strings in zip(result.clusters(), result.strings(), strict=True):
        names = Counter(strings)
        name = max(names, key=lambda name: (names[name], len(name)))
        rows.append((len(spans), name, sorted({bisect_right(starts, start) for start, _ in spans})))
    return sorted(rows, key=lambda row: -row[0])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or repository of a model of coreference")
    parser.add_argument("text_file", help="UTF-8")
    args = parser.parse_args(argv)
    try:
        text = Path(args.text_file).read_text(encoding="utf-8")
        result = CoreferenceResolver.from_pretrained(args.model).predict(text)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for num_mentions, name, sentences in table_of(result)[:SHOWN]:
        print(f"{num_mentions:4}  {name}  (sentences {', '.join(map(str, sentences))})")
    print(f"\n{result.resolved_text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
