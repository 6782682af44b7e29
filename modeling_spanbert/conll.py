"""Documents with coreference, read and written: CoNLL-2012 files, and the JSON lines of the authors' coreference code.

    for document in read_conll("dev.english.v4_gold_conll"):
        document.sentences, document.clusters

A CoNLL-2012 file has a line for each word and a blank line after each sentence:

    #begin document (bc/cctv/00/cctv_0000); part 000
    bc/cctv/00/cctv_0000   0   0   In     IN   (TOP(S(PP*   -   -   -   Speaker#1   *   -
    bc/cctv/00/cctv_0000   0   1   the    DT        (NP(NP*   -   -   -   Speaker#1   *   (0
    …
    #end document

Four of its columns are read: the first has the document's name, as the header; the fourth the word, the tenth its
speaker, and the last the mentions that begin "(0", end "0)" or do both "(0)" there, by the number of their entity and
with | between them. OntoNotes has 12 columns and one more for each predicate of the sentence, LitBank has 13.

JSON lines have an object a line: `doc_key`, `sentences`, `speakers`, `clusters`. Those that the authors' minimize.py
writes are of word pieces: `sentences` are segments of them, `sentence_map` and `subtoken_map` give the sentence and
the word of each.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .files import numbered_lines, parse_json, require, written


Mention = tuple[int, int]  # first and last word, both included, counted from 0 through the whole document

BEGIN = re.compile(r"#begin document \((.*)\); part (\d{1,9})")
PART = re.compile(r"(.+)_(0|[1-9]\d{0,8})")
BRACKET = re.compile(r"\(\d++\)?+|\d++\)")  # possessive: no digit is taken for another bracket
BRACKETS = re.compile(rf"(?:{BRACKET.pattern})(?:\|?(?:{BRACKET.pattern}))*")  # the scorer's own files have no |
NO_MENTION = {"-", "_", ""}  # in OntoNotes, SemEval-2010 and LitBank
MIN_COLUMNS, WORD, SPEAKER, COREFERENCE = 12, 3, 9, -1
PIECE_MAPS = ("sentence_map", "subtoken_map")


@dataclass
class CoreferenceDocument:
    """Words by sentence, the speaker of each word, and clusters of mentions.

    `doc_key` is the name and the part number of OntoNotes, "bc/cctv/00/cctv_0000_0". Where there are `sentence_map`
    and `subtoken_map`, word pieces take the place of words, and segments that of sentences. `part` is the part number
    as a file writes it: the reference scorer knows documents by their header, so predictions must repeat it.
    """

    doc_key: str
    sentences: list[list[str]]
    speakers: list[list[str]]
    clusters: list[list[Mention]]
    sentence_map: list[int] | None = None
    subtoken_map: list[int] | None = None
    part: str | None = field(default=None, compare=False)

    @property
    def genre(self) -> str:
        """The first two letters of the key, as in the authors' code: of OntoNotes bc, bn, mz, nw, pt, tc or wb."""
        return self.doc_key[:2]

    @property
    def num_words(self) -> int:
        return sum(map(len, self.sentences))


def read_conll(path: str | Path) -> Iterator[CoreferenceDocument]:
    """The documents of a CoNLL-2012 file, plain or gzipped, one at a time.

    Columns are separated by tabs in lines that have one, else by spaces. Mentions are in the order of the text, and so
    are clusters, by their first mentions. A mention that a file lists twice is there twice.

    Args:
        normalize_word: what to make of each word, such as `plain_word`; by default words are as the file has them.

    Raises:
        ValueError: in one line with file:line, for a line that is none of the above, another number of columns than
            the sentence began with, brackets without their counterpart, a document without words or without its
            "#end document", or a file without documents.
        OSError: for what is no readable file.
    """
    document, found = None, False
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        if line.startswith("#begin document"):
            if document is not None:
                raise ValueError(f"{where}: {document.begun} has no '#end document' before the next one begins")
            document = _DocumentLines(line, where)
        elif document is None:
            if line.strip():
                raise ValueError(
                    f"{where}: {line[:40]!r} is in no document; expected '#begin document (NAME); part 000'"
                )
        elif line.startswith("#end document"):
            yield document.complete(where)
            document, found = None, True
        elif line.strip():
            document.add_word(line, where)
        else:
            document.end_sentence()
    if document is not None:
        raise ValueError(f"{path}:{number}: {document.begun} has no '#end document' before the file ends")
    if not found:
        raise ValueError(f"{path} holds no document: no line '#begin document (NAME); part 000'")


def write_conll(documents: Iterable[CoreferenceDocument], path: str | Path) -> None:
    """Writes a CoNLL-2012 file, gzipped where `path` ends in .gz, from which `read_conll` reads the same documents.

    Where one of them cannot be written there is no file. Raises as `conll_text`.
    """
    with written(path) as file:
        for document in documents:
            file.write(conll_text(document))


def conll_text(document: CoreferenceDocument) -> str:
    """A document as in a CoNLL-2012 file, with the columns that are not known filled up with "-" or "*".

    Columns are separated by tabs: the reference scorer knows no other separator, and stops at words such as "3)" in
    others. A `doc_key` without a part number is given part 000, so it is read back with "_0" at its end; sentences
    without words and clusters without mentions are left out.

    Raises:
        ValueError: in one line, where mentions of one cluster cross or touch at a word without one being inside the
            other: their brackets would be read as other mentions; for word pieces, words with tabs or line breaks,
            other numbers of speakers than of words, mentions beyond the text, or no words at all.
    """
    where = f"document {document.doc_key!r:.60}"
    if document.subtoken_map is not None:
        raise ValueError(f"{where} is of word pieces; CoNLL files are of words")
    _check(document, where)
    _check_fields(document, where)
    for cluster in document.clusters:
        if crossing := _first_crossing(cluster):
            raise ValueError(
                f"{where}: mentions {list(crossing[0])} and {list(crossing[1])} of one cluster cross; "
                "brackets in a CoNLL file cannot say so, and would be read as other mentions"
            )

    name, part = _name_and_part(document)
    column = iter(_coreference_column(document))
    lines = [f"#begin document ({name}); part {part}"]
    for words, speakers in zip(document.sentences, document.speakers, strict=True):
        for number, (word, speaker) in enumerate(zip(words, speakers, strict=True)):
            fields = [name, str(int(part)), str(number), word, "-", "*", "-", "-", "-", speaker, "*", next(column)]
            lines.append("\t".join(fields))
        lines.append("")
    return "\n".join([*lines, "#end document", ""])


def read_jsonlines(path: str | Path) -> Iterator[CoreferenceDocument]:
    """The documents of a file of JSON lines, plain or gzipped, one at a time; what it has beside them is left out.

    Raises:
        ValueError: in one line with file:line, for what is not such an object, other numbers of speakers than of
            words, mentions beyond the text, or a document without words; for a file without documents.
        OSError: for what is no readable file.
    """
    found = False
    for number, line in numbered_lines(path):
        if line.strip():
            where = f"{path}:{number}"
            yield _from_json(parse_json(line, where), where)
            found = True
    if not found:
        raise ValueError(f"{path} holds no document")


def write_jsonlines(documents: Iterable[CoreferenceDocument], path: str | Path) -> None:
    """Writes a file of JSON lines, gzipped where `path` ends in .gz, from which `read_jsonlines` reads the same.

    Raises ValueError, and leaves no file, for a document that `read_jsonlines` would refuse.
    """
    with written(path) as file:
        for document in documents:
            _check(document, f"document {document.doc_key!r:.60}")
            fields = ("doc_key", "sentences", "speakers", "clusters", *PIECE_MAPS)
            record = {name: value for name in fields if (value := getattr(document, name)) is not None}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


class _Opening(NamedTuple):
    word: int
    place: str  # for a message


class _DocumentLines:
    """What has been read of a document. Its messages count sentences and words from 0, as the third column does."""

    def __init__(self, header: str, where: str):
        match = BEGIN.fullmatch(header.strip())
        if not match:
            raise ValueError(f"{where}: {header[:80]!r}: expected '#begin document (NAME); part 000'")
        self.doc_key, self.part = f"{match[1]}_{int(match[2])}", match[2]
        self.begun = f"document {self.doc_key!r:.60}, which begins at {where},"
        self.sentences: list[list[str]] = []
        self.speakers: list[list[str]] = []
        self.in_sentence = False
        self.num_words = 0
        self.num_columns = 0  # of the sentence's first line
        self.openings: dict[str, list[_Opening]] = defaultdict(list)  # by entity, the innermost last
        self.mentions: dict[str, list[Mention]] = defaultdict(list)

    def add_word(self, line: str, where: str) -> None:
        # Spaces alone, as words may hold other white space.
        columns = line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]
        if not self.in_sentence:
            self.sentences.append([])
            self.speakers.append([])
            self.in_sentence, self.num_columns = True, len(columns)
        self._check_columns(len(columns), where)
        word = columns[WORD]
        place = (
            f"{where}: document {self.doc_key!r:.60}, sentence {len(self.sentences) - 1}, "
            f"token {len(self.sentences[-1])} ({word!r:.60})"
        )
        self._add_brackets(columns[COREFERENCE].strip(), place)
        self.sentences[-1].append(word)
        self.speakers[-1].append(columns[SPEAKER])
        self.num_words += 1

    def end_sentence(self) -> None:
        self.in_sentence = False

    def complete(self, where: str) -> CoreferenceDocument:
        if not self.num_words:
            raise ValueError(f"{where}: {self.begun} has no words")
        for entity, openings in self.openings.items():
            if openings:
                raise ValueError(
                    f"{openings[-1].place}: the mention of entity {entity:.20} that begins here never ends"
                )
        clusters = sorted(sorted(mentions) for mentions in self.mentions.values())
        return CoreferenceDocument(self.doc_key, self.sentences, self.speakers, clusters, part=self.part)

    def _check_columns(self, num_columns: int, where: str) -> None:
        if num_columns < MIN_COLUMNS:
            raise ValueError(
                f"{where}: {num_columns} columns; expected {MIN_COLUMNS} at least, coreference in the last"
            )
        if num_columns != self.num_columns:
            raise ValueError(f"{where}: {num_columns} columns; the sentence began with {self.num_columns}")

    def _add_brackets(self, column: str, place: str) -> None:
        if column in NO_MENTION:
            return
        if not BRACKETS.fullmatch(column):
            raise ValueError(
                f"{place}: coreference {column!r:.60}; expected '-', or '(0', '0)', '(0)' with | between them"
            )
        ended = set()
        for bracket in BRACKET.findall(column):
            entity = bracket.strip("()")
            begins, ends = bracket.startswith("("), bracket.endswith(")")
            if begins and not ends and entity in ended:
                # The authors' code takes brackets as they come, the reference scorer those that begin first.
                raise ValueError(
                    f"{place}: in {column!r:.60} mentions of entity {entity:.20} cross: it can be read in two ways"
                )
            if begins:
                self.openings[entity].append(_Opening(self.num_words, place))
            if ends:
                if not self.openings[entity]:
                    raise ValueError(f"{place}: a mention of entity {entity:.20} ends here that has not begun")
                self.mentions[entity].append((self.openings[entity].pop().word, self.num_words))
                ended.add(entity)


def _coreference_column(document: CoreferenceDocument) -> list[str]:
    """The brackets of each word: of mentions that begin, the longest first, of one word, and that end."""
    begin, alone, end = defaultdict(list), defaultdict(list), defaultdict(list)
    mentions = [(*mention, entity) for entity, cluster in enumerate(document.clusters) for mention in cluster]
    for first, last, entity in sorted(mentions, key=lambda mention: mention[0] - mention[1]):  # the longest first
        if first == last:
            alone[first].append(f"({entity})")
        else:
            begin[first].append(f"({entity}")
            end[last].append(f"{entity})")
    return ["|".join([*begin[word], *alone[word], *reversed(end[word])]) or "-" for word in range(document.num_words)]


def _first_crossing(cluster: list[Mention]) -> tuple[Mention, Mention] | None:
    """The first two mentions that share a word though neither is inside the other."""
    around = []  # the mentions that have not ended, each inside the one before
    for mention in sorted(cluster, key=lambda mention: (mention[0], -mention[1])):
        while around and around[-1][1] < mention[0]:
            around.pop()
        if around and around[-1][1] < mention[1]:
            return around[-1], mention
        around.append(mention)
    return None


def _name_and_part(document: CoreferenceDocument) -> tuple[str, str]:
    if document.part is not None:
        return document.doc_key.removesuffix(f"_{int(document.part)}"), document.part
    match = PART.fullmatch(document.doc_key)
    return (match[1], f"{int(match[2]):03d}") if match else (document.doc_key, "000")


def _from_json(record: Any, where: str) -> CoreferenceDocument:
    doc_key = require(record, "doc_key", str, where)
    where = f"{where}: document {doc_key!r:.60}"
    for key in ("sentences", "speakers", "clusters"):
        for item in require(record, key, list, where):
            if not isinstance(item, list):
                raise ValueError(f"{where}: {key} has {item!r:.60}; expected a list of lists")
    clusters = [[_mention(mention, where) for mention in cluster] for cluster in record["clusters"]]
    maps = {key: require(record, key, list, where) for key in PIECE_MAPS if record.get(key) is not None}
    document = CoreferenceDocument(doc_key, record["sentences"], record["speakers"], clusters, **maps)
    _check(document, where)
    return document


def _mention(value: Any, where: str) -> Mention:
    if not isinstance(value, list) or len(value) != 2 or not all(type(word) is int for word in value):
        raise ValueError(f"{where}: {value!r:.60} in clusters is no mention; expected [first, last]")
    return tuple(value)


def _check(document: CoreferenceDocument, where: str) -> None:
    """Raises ValueError where parts of a document do not fit each other."""
    if not document.num_words:
        raise ValueError(f"{where} has no words")
    for word in chain(*document.sentences, *document.speakers):
        if not isinstance(word, str):
            raise ValueError(f"{where}: {word!r:.60} among sentences and speakers; expected a string for each word")
    if list(map(len, document.speakers)) != list(map(len, document.sentences)):
        raise ValueError(f"{where}: speakers have not the lengths of sentences; expected a speaker for each word")
    for first, last in chain(*document.clusters):
        if not 0 <= first <= last < document.num_words:
            raise ValueError(
                f"{where}: mention {[first, last]}: expected first and last of {document.num_words} words, from 0"
            )
    for name in PIECE_MAPS:
        places = getattr(document, name)
        if places is not None and len(places) != document.num_words:
            raise ValueError(f"{where}: {name} has {len(places)} items for {document.num_words} word pieces")


def _check_fields(document: CoreferenceDocument, where: str) -> None:
    for text in chain([document.doc_key], *document.sentences, *document.speakers):
        if any(separator in text for separator in "\t\r\n"):
            raise ValueError(f"{where}: {text!r:.60} has a tab or a line break, which ends a column of a CoNLL file")
