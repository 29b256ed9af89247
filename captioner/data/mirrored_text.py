"""Adapt captions to horizontally flipped images: swap "left" and "right".

Of the 35,000 captions of Flickr8k train and dev, 149 contain one of these words. In 20 of them it
is not clearly a side, so their images must not be mirrored.

Only English words are swapped. Other languages also have words for sides ("links", "à gauche",
"左"), so an image with a text that may not be English is not mirrored: this loses some augmentation
but trains on no wrong caption. The word lists contain function words of other languages that are no
English words, and the words for left and right of languages in Latin script.
"""

from __future__ import annotations

import re

from captioner.text import parse_words

# Other capitalization is left unchanged, so that swapping twice restores the caption.
_SWAP = {"left": "right", "Left": "Right", "LEFT": "RIGHT"}
_SWAP |= {right: left for left, right in _SWAP.items()}
_TAIL = r"(?P<tail>most|hand(?:ed)?|wards?|)"
_SIDE = re.compile(rf"\b(?P<side>left|right){_TAIL}\b", re.IGNORECASE)

# Words before a side: "on the LEFT", "her RIGHT hand", "at top LEFT of frame".
_BEFORE = re.compile(
    r"the|a|his|her|its|their|my|your|our|to|on|from|at|in|far|top|bottom|upper|lower|front|rear|"
    r"back|hind|center|centre|middle"
)
# Words after a side: "an injured RIGHT arm".
_AFTER = re.compile(
    r"(?:side|hand|arm|leg|paw|eye|ear|shoulder|knee|wrist|elbow|ankle|cheek|thumb|wing)s?|foot|"
    r"feet|corner|half|edge|lane|turn"
)
# Words after "left" or "right" in another sense: "the RIGHT way", "in LEFT field".
_OTHER_SENSE = re.compile(
    r"(?:way|angle)s?|time|moment|answer|amount|size|direction|place|thing|kind|field|fielder|now|"
    r"behind|alone|over|there|here"
)
# "upperleft", "bottomright": such captions are not flipped.
_COMPOUND = re.compile(
    r"\b(?:upper|lower|top|bottom|front|back|rear|mid|middle|far|centre|center)(?:left|right)\b",
    re.IGNORECASE,
)
_HYPHENATED = re.compile(r"(?:hand|handed|hander|side|most|wards?|foot|footed)\b")

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = parse_words("""the and of with are his her their its is an at to from for by as that this
    while through into over near two three some they he she it up down out off there who which""")
# By line: German; Dutch; French; Spanish and Catalan; Portuguese; Italian and Romanian; Nordic;
# Finnish and Hungarian; Slavic; Turkish, Indonesian and Swahili.
_OTHER = parse_words("""
    der das dem ein eine einem einen einer und mit auf zwei sind ist neben vor hinter zum zur
    een het met twee naast zijn wordt staat zit bij aan einige steht sitzt
    le la les une des du dans sur avec et est deux qui aux au sous
    el los las una uno con en y por sobre junto esta dos amb dels els
    uma umas com em ao na nas nos um dois
    il gli di che nel nella sul sulla della delle due si cu pe din
    ett och med som av og til ved
    ja kaksi seisoo istuu egy az
    na z w jest oraz dwa dwoje przy obok je se ve jsou dva dvije kod
    bir ile iki yang dengan sebuah seorang pada atas katika
""")
_SIDES = re.compile(
    r"\b(?:links\w*|rechts\w*|linke[mnrs]?|rechte[mnrs]?|linker\w*|rechter\w*|gauche|droite?s?|izquierd\w+"
    r"|derech\w+|esquerr?[ad]\w*|direit\w+|dereit\w+|dreta|sinistr\w+|destr[aeio]|st[âa]ng[aăiu]\w*"
    r"|dre(?:apta|pt\w*)|v[äa]nster|h[öo]ger|venstre|h[øo]jre|h[øo]yre|vinstr[iau]|h[æa]gr[iau]|vase(?:n|m)\w*"
    r"|oike\w+|vasak\w*|paremal|balra|jobbra|(?:bal|jobb) ?oldal\w*|lew(?:o|a|e|ej|y|ym|ą)"
    r"|praw(?:o|a|e|ej|y|ym|ą)|v?le[vw][éoý]\w*|v?prav[oýáéu]\w*|v?[ľl]avo|lijev\w+|ljev\w+|desn\w+"
    r"|kair[eėiė]\w*|de[šs]in\w+|kreis\w+|solda|sola|sa[ğg]da|sa[ğg]a|kiri|kanan|kaliwa|kushoto|kulia"
    r"|tr[áa]i|ph[ảa]i|ezker\w*|eskuin\w*|chwith|majtas|djathtas|labi|regs|dheis|chl[ée]|nalewo|naprawo)\b",
    re.IGNORECASE,
)
_NOT_LATIN = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1eff]")
_ACCENT = re.compile(r"[^\W\d_\u0000-\u007f]")


def mentions_side(text: str) -> bool:
    """Return whether the caption contains left, right or a compound of them, in any sense."""
    return _SIDE.search(text) is not None


def flip_caption(text: str) -> str:
    """Swap the words left and right, keeping their case; a second call restores `text`.

    "Left-hand", "rightmost" and "leftward" are swapped, too; "bright", "upright" and "leftover"
    are not. The sense of the words is not considered: call `can_flip` first.
    """
    return _SIDE.sub(_swap, text)


def _swap(match: re.Match[str]) -> str:
    side = match["side"]
    return _SWAP.get(side, side) + match["tail"]


def can_flip(text: str) -> bool:
    """Return whether `flip_caption(text)` describes the mirrored image.

    Each left or right in it must clearly be a side: after a word such as "the", "her" or "to", or
    before "side" or "arm". The result is False for "right in front of", "all right", "left behind"
    and "looks right at the camera", and for languages other than English.
    """
    if _COMPOUND.search(text) or not is_english(text):
        return False
    return all(_is_side(text, match) for match in _SIDE.finditer(text))


def _is_side(text: str, match: re.Match[str]) -> bool:
    if match["side"] not in _SWAP:
        return False
    before = re.search(r"([\w']+)(\s+|-)$", text[: match.start()])
    after = re.match(r"(\s+|-)([\w'-]+)", text[match.end() :])
    word_before = before[1].lower() if before else ""
    word_after = after[2].lower() if after else ""
    if match["tail"]:
        return True
    if after and after[1] == "-":
        return _HYPHENATED.match(word_after) is not None
    if _AFTER.fullmatch(word_after):
        return True
    has_word_before = _BEFORE.fullmatch(word_before) is not None
    return has_word_before and not _OTHER_SENSE.fullmatch(word_after)


def is_english(text: str) -> bool:
    """Return whether a text has no sign of a language other than English."""
    if _NOT_LATIN.search(text) or _SIDES.search(text):
        return False
    words = _WORD.findall(text.lower())
    english, other = (sum(word in some for word in words) for some in (_ENGLISH, _OTHER))
    return other <= english and not (_ACCENT.search(text) and not english)
