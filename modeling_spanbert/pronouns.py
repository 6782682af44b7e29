"""Text in which pronouns are replaced by what they stand for: "Ada was tired, so she slept." -> "…, so Ada slept."

Of a cluster the most telling mention is the first that is a name, which begins with a capital letter and is neither a
pronoun nor begins with "The" or the like; or else the first that is no pronoun. A pronoun is replaced where it is a
mention by itself: a possessive one by "Ada's". These stay as they are:

- pronouns of a cluster that has nothing but pronouns, and those inside of the most telling mention itself;
- reflexives ("herself") and relatives ("who"), which their sentences already explain;
- those with a contraction ("I'm"), whose verb would be wrong.

"her" is taken for a possessive before a word that may begin or be a noun, and for an object before one of a closed
list and before punctuation. All is by rule, for English.
"""

from collections.abc import Sequence

from .coreference import Cluster, Mention


PERSONAL = frozenset("i me you he him she it we us they them".split())
POSSESSIVE = frozenset("my mine your yours his hers its our ours their theirs".split())
OTHER_PRONOUNS = frozenset(
    "myself yourself himself herself itself ourselves yourselves themselves who whom whose which that this these "
    "those one each other".split()
)
PRONOUNS = PERSONAL | POSSESSIVE | OTHER_PRONOUNS | {"her"}
DETERMINERS = frozenset(
    "a an the this that these those some any every each no all both my your his her its our their".split()
)
# After "her" these are no part of what is hers.
AFTER_OBJECT = frozenset(
    "a about after again all also an and any are as at away back because before but by did do down for from had has "
    "he here his how i if in into is it later my never not now of off on or our out over she so some that the their "
    "then there these they this those through to today too up upon was we went were what when where which while who "
    "will with you your".split()
)


def resolve_pronouns(text: str, words: Sequence[tuple[int, int]], clusters: Sequence[Cluster]) -> str:
    """The text with the pronouns of `clusters` replaced.

    `words` are (start, end) in characters, the end exclusive; mentions are (first, last) word, both included.
    """
    spelled = [text[start:end] for start, end in words]
    replacements = {}  # of words, by their number
    for cluster in clusters:
        telling = most_telling_mention(cluster, spelled)
        if telling is None:
            continue
        name = text[words[telling[0]][0] : words[_last_of_name(telling, spelled)][1]]
        if spelled[telling[0]].lower() in DETERMINERS:
            name = name[0].lower() + name[1:]
        for first, last in cluster:
            if first == last and not telling[0] <= first <= telling[1]:
                if (replacement := _replacement(first, name, spelled)) is not None:
                    replacements[first] = replacement

    parts, done = [], 0
    for number in sorted(replacements):
        start, end = words[number]
        parts += [text[done:start], replacements[number]]
        done = end
    return "".join([*parts, text[done:]])


def most_telling_mention(cluster: Cluster, words: Sequence[str]) -> Mention | None:
    """The first name of a cluster, or else its first mention that is no pronoun; None where all are pronouns."""
    nouns = [
        mention for mention in cluster if not (mention[0] == mention[1] and words[mention[0]].lower() in PRONOUNS)
    ]
    names = [
        mention
        for mention in nouns
        if words[mention[0]][:1].isupper() and words[mention[0]].lower() not in DETERMINERS | PRONOUNS
    ]
    return next(iter(names or nouns), None)


def _last_of_name(mention: Mention, words: Sequence[str]) -> int:
    """The last word of a mention but for "'s": OntoNotes counts it to the mention."""
    first, last = mention
    return last - 1 if last > first and words[last].lower() in ("'s", "’s", "'", "’") else last


def _replacement(number: int, name: str, words: Sequence[str]) -> str | None:
    """What stands in the place of a word: None where it is no pronoun that is replaced."""
    pronoun = words[number].lower()
    following = words[number + 1].lower() if number + 1 < len(words) else ""
    if following.startswith(("'", "’")) and len(following) > 1:
        return None
    if words[number][0].isupper() and pronoun != "i":
        name = name[0].upper() + name[1:]
    if pronoun in POSSESSIVE or (pronoun == "her" and following[:1].isalpha() and following not in AFTER_OBJECT):
        return f"{name}'s"
    return name if pronoun in PERSONAL or pronoun == "her" else None
