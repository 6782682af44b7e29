"""Splits English text into sentences and words, by rule, with exact character offsets.

`text[start:end]` is the sentence or word: nothing is normalised, and every character that is not white space is in
exactly one of them. Blocks for pre-training (Section 3.3) and the segments of long documents are made of these
sentences, so a wrong boundary costs little; what counts is that no text is lost and that a corpus takes seconds.
"""

import re
import unicodedata


# The Penn Treebank's names of brackets, in which the words of OntoNotes and TACRED are written.
TREEBANK_BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "-lcb-": "{", "-rcb-": "}"}

# A blank line ends a paragraph, and a paragraph ends a sentence.
PARAGRAPH_BREAK = re.compile(r"\n[^\S\n]*\n\s*")
LINE_BREAK = re.compile(r"\n\s*")

# Where a sentence may end: full stops with closing quotes and brackets (1), white space, and anything but a small
# letter, after opening quotes and brackets (2). The look-behind keeps a row of dots from being tried at every dot.
SENTENCE_END = re.compile(r"""([.!?…](?<![.!?…]{2})[.!?…]*["'”’»)\]]*)\s+(?=["'“‘«(\[¿¡$£€]*([^\W_a-zß-öø-ÿ]\w*))""")
INITIALS = re.compile(r"(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z])\Z")
LIST_NUMBER = re.compile(r"[(\[]?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})\Z")

# No sentence ends after these: a name follows.
TITLES = frozenset(
    "Mr Mrs Ms Mlle Mme Messrs Dr Drs Prof Gen Brig Col Maj Capt Cmdr Cpl Lt Sgt Adm Gov Sen Rep Reps Sens Pres Supt "
    "Insp Rev Hon Rt Fr Bro St Ste Mt Ft vs cf viz eg ie e.g i.e esp ca".split()
)
# No sentence ends after these where a number follows.
COUNTED = frozenset(
    "No Nos no nos p pp P Fig Figs fig figs Vol Vols vol vols Ch ch Sec sec Art art Eq eq Ex Op".split()
)
# A sentence ends after these, and after initials (U.S., J.), only where a word follows that seldom starts a name.
ABBREVIATIONS = frozenset(
    "Jr Sr Esq Inc Co Corp Ltd Bros etc al Ave Blvd Rd Dept Univ Assn Ph.D M.D a.m p.m A.M P.M B.C A.D Jan Feb Mar "
    "Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thurs Fri Sat Sun approx est".split()
)
SENTENCE_STARTERS = frozenset(
    "A After All Also Although An And Another As At Because Before Both But By During Each Even Every For From He Her "
    "Here His How However I If In Indeed It Its Later Many Meanwhile More Moreover Most My No Nor Not Now On Once One "
    "Only Or Other Our She Since So Some Still Such That The Their Then There Therefore These They This Those Though "
    "Thus Today To Under Until Upon We What When Where Whether Which While Who Why With Yet You Your".split()
)

# What belongs to the letter before it, though it is none for `re`: accents, vowel signs, joiners, variation selectors.
MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
MARKS += "\u00ad\u200c\u200d\ufe00-\ufe0f\ufe20-\ufe2f"
LETTER = rf"[\w{MARKS}]"
CONTRACTION = rf"(?i:s|re|ve|ll|d|m)(?!{LETTER})"  # after an apostrophe
NOT = rf"(?i:n['’]t)(?!{LETTER})"
# The first that matches. A full stop after an abbreviation belongs to it, but not the one at the end of a sentence.
WORD = re.compile(
    rf"""(?<!\w)(?:{"|".join(map(re.escape, sorted(TITLES | ABBREVIATIONS)))}|[A-Z])\.(?=[\s,;:])
    |(?<!\w)(?:{"|".join(sorted(COUNTED))})\.(?=\s*\d)
    |(?<!\w)(?:[A-Z][a-z]?\.|[a-z]\.){{2,}}  # U.S., Ph.D., a.m.
    |(?<=\w)(?:{NOT}|['’]{CONTRACTION})
    |{LETTER}+?(?={NOT})
    |\d+(?:[.,:]\d+)+
    |{LETTER}+(?:['’&](?!{CONTRACTION}){LETTER}+)*  # O'Brien, AT&T
    |([^\w\s])\1*[{MARKS}]*  # ..., --
    """,
    re.VERBOSE,
)


def split_sentences(text: str, line_breaks: bool = False) -> list[tuple[int, int]]:
    """The sentences of `text` as character offsets (start, end), end exclusive, without the white space around them.

    Args:
        text: any string; blank lines always end a sentence.
        line_breaks: every line break ends a sentence too, as in a corpus with one sentence a line.
    """
    sentences = []
    paragraph = 0
    for gap in (LINE_BREAK if line_breaks else PARAGRAPH_BREAK).finditer(text):
        _split_paragraph(text, paragraph, gap.start(), sentences)
        paragraph = gap.end()
    _split_paragraph(text, paragraph, len(text), sentences)
    return sentences


def _split_paragraph(text: str, start: int, stop: int, sentences: list[tuple[int, int]]) -> None:
    piece = text[start:stop]
    stop = start + len(piece.rstrip())
    start += len(piece) - len(piece.lstrip())
    for match in SENTENCE_END.finditer(text, start, stop):
        if _ends_here(text, start, match):
            sentences.append((start, match.end(1)))
            start = match.end()
    if start < stop:
        sentences.append((start, stop))


def _ends_here(text: str, start: int, match: re.Match) -> bool:
    """Whether the sentence that began at `start` ends at `match`, by the words on both sides of a single full stop."""
    stop, next_word = match.start(), match[2]
    if next_word[0].islower():  # small letters beyond Latin-1
        return False
    if not match[1].startswith(".") or match[1].startswith(".."):
        return True
    if stop - start <= 6 and LIST_NUMBER.match(text[start:stop]):  # "1. The", "(iv). The"
        return False
    words = text[max(start, stop - 24) : stop].split()
    word = words[-1].lstrip("\"'“‘([—–") if words else ""
    if word in TITLES:
        return False
    if word in COUNTED:
        return not next_word[0].isdigit()
    if word in ABBREVIATIONS or INITIALS.match(word):
        return next_word in SENTENCE_STARTERS
    return True


def split_words(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The words of the sentence `text[start:end]` as character offsets (start, end) in `text`, end exclusive.

    As in OntoNotes: signs are words of their own, and so are hyphens, "n't" and "'s"; "U.S.", "Mr." and "3,000.5" are
    one.
    """
    return [match.span() for match in WORD.finditer(text, start, len(text) if end is None else end)]


def restore_bracket(word: str) -> str:
    """The bracket that the word is the Penn Treebank's name of, in either case; other words as they are."""
    return TREEBANK_BRACKETS.get(word.lower(), word)
