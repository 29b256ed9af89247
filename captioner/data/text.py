"""Caption text: one tidy form for training, and what a left-right flip does to the words.

A mirrored picture makes "the dog on the left" untrue. There are two honest ways out, and this
module serves both: swap the words (`flip_caption`, where `can_flip` says that every one of them
names a side) or leave the picture unmirrored (`mentions_side`). "Right in front of", "all right"
and "left behind" hold the same words without naming a side; a caption with any use that is not
plainly a side is not for flipping (`can_flip` is False); in Flickr8k's 35,000 captions of train and
dev, 149 hold such a word and 20 of these are not for flipping.
"""

from __future__ import annotations

import re

from captioner.data.language import is_english

# Only the three usual spellings are swapped, so that swapping twice gives the caption back.
_SWAP = {
    "left": "right",
    "Left": "Right",
    "LEFT": "RIGHT",
    "right": "left",
    "Right": "Left",
    "RIGHT": "LEFT",
}
_TAIL = r"(?P<tail>most|hand(?:ed)?|wards?|)"
_SIDE = re.compile(rf"\b(?P<side>left|right){_TAIL}\b", re.IGNORECASE)

# "on the LEFT", "her RIGHT hand", "at top LEFT of frame": the word before makes it a side ...
_BEFORE = re.compile(
    r"the|a|his|her|its|their|my|your|our|to|on|from|at|in|far|top|bottom|upper|lower|front|rear|"
    r"back|hind|center|centre|middle"
)
# ... or the word after does: "an injured RIGHT arm".
_AFTER = re.compile(
    r"(?:side|hand|arm|leg|paw|eye|ear|shoulder|knee|wrist|elbow|ankle|cheek|thumb|wing)s?|foot|"
    r"feet|corner|half|edge|lane|turn"
)
# "the RIGHT way", "a RIGHT angle", "in LEFT field": a side in form only.
_ONLY_IN_FORM = re.compile(
    r"(?:way|angle)s?|time|moment|answer|amount|size|direction|place|thing|kind|field|fielder|now|"
    r"behind|alone|over|there|here"
)
# "upperleft", "bottomright": sides that are not swapped.
_COMPOUND = re.compile(
    r"\b(?:upper|lower|top|bottom|front|back|rear|mid|middle|far|centre|center)(?:left|right)\b",
    re.IGNORECASE,
)
_HYPHENATED = re.compile(r"(?:hand|handed|hander|side|most|wards?|foot|footed)\b")

_BEFORE_PUNCTUATION = re.compile(r" +(?=[.,;:!?)\]%](?:\s|$|[.,;:!?)\]\"]))")
_AFTER_BRACKET = re.compile(r"(?<=[(\[]) +")
_CLITIC = re.compile(r" +(?=(?:'(?:s|m|d|re|ve|ll)|n't)\b)", re.IGNORECASE)
_INNER_QUOTES = re.compile(r'(?<!\S)" ([^"]*[^"\s]) "(?!\S)')
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}


def normalize_caption(text: str, *, lowercase: bool = True) -> str:
    """Returns the caption in the form that the model learns to write.

    White space (line breaks too) becomes single spaces; the space that tokenised captions such as
    Flickr8k's hold before punctuation and clitics goes ("a man 's hat ." -> "a man's hat"), as do
    a final full stop and quotation marks around the whole. Applying it twice changes nothing.
    An empty result means that the caption said nothing.
    """
    if lowercase:
        text = text.lower()
    previous = None
    while text != previous:  # each step only removes characters, so this ends
        previous = text
        text = _tidy_once(text)
    return text


def normalize_question(text: str, *, lowercase: bool = True) -> str:
    """Returns the question as the model reads it: as a caption, without its question marks."""
    previous = None
    while text != previous:
        previous = text
        text = normalize_caption(text, lowercase=lowercase).rstrip(" ?")
    return text


def _tidy_once(text: str) -> str:
    text = " ".join(text.split())
    text = _BEFORE_PUNCTUATION.sub("", text)
    text = _AFTER_BRACKET.sub("", text)
    text = _CLITIC.sub("", text)
    text = _INNER_QUOTES.sub(r'"\1"', text)
    text = text.rstrip(" .")
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        inner = text[1:-1]
        # '"Stop" says the "man"' is not one quotation.
        if text[0] not in inner and text[-1] not in inner:
            text = inner
    return text


def mentions_side(text: str) -> bool:
    """Says whether the caption holds left, right or a word made of them, in whatever sense."""
    return _SIDE.search(text) is not None


def flip_caption(text: str) -> str:
    """Swaps left and right, whole words only, keeping their case; twice gives `text` back.

    Swaps "left-hand", "rightmost", "leftward" and the like too, and leaves "bright", "upright" and
    "leftover" alone. It does not judge the sense: ask `can_flip` first.
    """
    return _SIDE.sub(_swap, text)


def _swap(match: re.Match[str]) -> str:
    side = match["side"]
    return _SWAP.get(side, side) + match["tail"]


def can_flip(text: str) -> bool:
    """Return whether `flip_caption(text)` is true of the mirrored image.

    True where the caption names no side, or where every left/right in it plainly is one (a word
    such as "the", "her", "to" before it, or "side", "arm" after it). False for "right in front
    of", "all right", "left behind", "looks right at the camera", for other languages than English,
    and for whatever is in doubt: such a caption's image should not be mirrored.
    """
    if _COMPOUND.search(text) or not is_english(text):
        return False
    return all(_names_a_side(text, match) for match in _SIDE.finditer(text))


def _names_a_side(text: str, match: re.Match[str]) -> bool:
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
    anchored = _BEFORE.fullmatch(word_before) is not None
    return anchored and not _ONLY_IN_FORM.fullmatch(word_after)
