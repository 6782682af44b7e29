"""Your own text -> who and what it is about: the clusters of coreference, the most often mentioned first.

    python examples/coreference_of_your_text.py runs/coref/export my_text.txt

Prints, for each of the ten largest clusters, how often it is mentioned, what it is called most, and in which sentences
it is; then the text with its pronouns replaced.
"""

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


def main(argv: list[str]) -> None:
    model, text = argv
    result = CoreferenceResolver.from_pretrained(model).predict(Path(text).read_text(encoding="utf-8"))
    for num_mentions, name, sentences in table_of(result)[:SHOWN]:
        print(f"{num_mentions:4}  {name}  (sentences {', '.join(map(str, sentences))})")
    print(f"\n{result.resolved_text()}")


if __name__ == "__main__":
    main(sys.argv[1:])
