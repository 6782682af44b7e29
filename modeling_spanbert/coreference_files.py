"""Coreference in files: documents read one by one, their clusters written as JSON lines and as a page to look at.

    .txt      documents with blank lines between them
    .jsonl    an object a line with one of `text`, `tokens` (words) and `sentences` (lists of words), and where it has
              them `speakers`, `genre`, `mentions` and `doc_key`, as `CoreferenceResolver.predict` takes them
    .conll    CoNLL-2012, also with a name like dev.english.v4_gold_conll; its own clusters are not looked at

All may be gzipped.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from .conll import read_conll
from .coreference_document import DocumentToResolve, check_genre
from .coreference_resolver import CoreferenceResolver
from .files import check_outputs, numbered_lines, parse_json, written
from .show import ABOUT_CLUSTERS, PAGE_END, colour_clusters, count_of, document_html, page_start, wants_colour


FIELDS = ("speakers", "genre", "mentions", "doc_key")  # that a record may have beside its text
KINDS = {
    "text": DocumentToResolve.from_text,
    "tokens": DocumentToResolve.from_tokens,
    "sentences": DocumentToResolve.from_sentences,
}


def read_documents(path: str | Path, genres: Sequence[str]) -> Iterator[DocumentToResolve]:
    """The documents of a file, by its name. In a CoNLL file other genres than `genres` are unknown ones.

    Raises ValueError, with one line, for another name, for what is wrong in the file, and for one without documents;
    OSError for what is no readable file.
    """
    check_name(path)
    name = Path(path).name.removesuffix(".gz")
    if name.endswith(".txt"):
        return read_text(path)
    return read_records(path, genres) if name.endswith(".jsonl") else read_conll_words(path, genres)


def check_name(path: str | Path) -> None:
    """Raises ValueError for a name that tells of no kind of file that is read here."""
    if not Path(path).name.removesuffix(".gz").endswith((".txt", ".jsonl", "conll")):
        raise ValueError(f"{path}: expected a name that ends in .txt, .jsonl or conll, or in these and .gz")


def read_text(path: str | Path) -> Iterator[DocumentToResolve]:
    """The documents of a text file. Raises ValueError for a file without any, and as `numbered_lines`."""
    lines, found = [], False
    for _, line in numbered_lines(path):
        if line.strip():
            lines.append(line)
        elif lines:
            yield DocumentToResolve.from_text("\n".join(lines))
            lines, found = [], True
    if lines:
        yield DocumentToResolve.from_text("\n".join(lines))
    elif not found:
        raise ValueError(f"{path} holds no document")


def read_records(path: str | Path, genres: Sequence[str]) -> Iterator[DocumentToResolve]:
    """The documents of a file of JSON lines. Raises ValueError with file:line for what is none."""
    found = False
    for number, line in numbered_lines(path):
        if line.strip():
            where = f"{path}:{number}"
            record = parse_json(line, where)
            try:
                yield _from_record(record, genres)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            found = True
    if not found:
        raise ValueError(f"{path} holds no document")


def read_conll_words(path: str | Path, genres: Sequence[str]) -> Iterator[DocumentToResolve]:
    """The documents of a CoNLL-2012 file with their speakers. Raises as `read_conll`."""
    for document in read_conll(path):
        genre = document.genre if document.genre in genres else None
        yield DocumentToResolve.from_sentences(document.sentences, document.speakers, genre, doc_key=document.doc_key)


def _from_record(record, genres: Sequence[str]) -> DocumentToResolve:
    given = [name for name in KINDS if isinstance(record, dict) and name in record]
    if len(given) != 1:
        raise ValueError(f"expected an object with one of {', '.join(KINDS)}; found: {', '.join(given) or 'none'}")
    if "subtoken_map" in record:
        raise ValueError("sentences of word pieces, as the authors' minimize.py writes them: expected words")
    options = {name: record[name] for name in FIELDS if record.get(name) is not None}
    for name in ("genre", "doc_key"):
        if not isinstance(options.get(name, ""), str):
            raise ValueError(f"{name}={options[name]!r:.60}: expected a string")
    check_genre(options.get("genre"), genres)
    return KINDS[given[0]](record[given[0]], **options)


def check_paths(input_file: str | Path, *outputs: str | Path | None) -> None:
    """Raises ValueError or OSError, before anything is computed, for files that cannot be read or written."""
    check_name(input_file)
    if not Path(input_file).is_file():
        raise FileNotFoundError(f"file not found: {input_file}")
    check_outputs(outputs, [input_file])


def resolve_file(
    resolver: CoreferenceResolver,
    input_file: str | Path,
    output_file: str | Path | None = None,
    html_file: str | Path | None = None,
    singletons: bool = False,
) -> str:
    """As `resolve_documents`, for those of a file. Raises also as `read_documents`."""
    documents = read_documents(input_file, resolver.model.config.genres)
    title = f"Coreference in {Path(input_file).name}"
    return resolve_documents(resolver, documents, output_file, html_file, singletons, title)


def resolve_documents(
    resolver: CoreferenceResolver,
    documents: Iterable[DocumentToResolve],
    output_file: str | Path | None = None,
    html_file: str | Path | None = None,
    singletons: bool = False,
    title: str = "Coreference",
) -> str:
    """Resolves documents, of which some are in memory at a time; returns what was found, in a line.

    Writes `output_file`, JSON lines as of `CoreferenceResult.to_json`, and `html_file`, a page with a `title`; without
    either the documents go to the terminal. Where something goes wrong there are no files.

    Raises as `CoreferenceResolver.predict`.
    """
    results = resolver.predict_iter(documents, singletons=singletons, progress=bool(output_file or html_file))
    counts = Counter()
    with ExitStack() as stack:
        output = stack.enter_context(written(output_file)) if output_file else None
        page = stack.enter_context(written(html_file)) if html_file else None
        if page:
            page.write(page_start(title) + ABOUT_CLUSTERS)
        for number, result in enumerate(results, start=1):
            counts += Counter(
                documents=1,
                empty=not result.document.words,
                clusters=len(result.word_clusters),
                mentions=sum(map(len, result.word_clusters)),
            )
            if output:
                output.write(result.to_json() + "\n")
            if page:
                name = result.document.doc_key or f"Document {number}"
                page.write(document_html(name, result.text, result.clusters()))
            if not (output or page):
                print(colour_clusters(result.text, result.clusters(), colour=wants_colour()), end="\n\n")
        if page:
            page.write(PAGE_END)
    found = ", ".join(count_of(counts[f"{thing}s"], thing) for thing in ("document", "cluster", "mention"))
    return found + (f"; {count_of(counts['empty'], 'document')} without words" if counts["empty"] else "")
