"""Penn Treebank tokenisation of captions, without Java.

The captioning literature scores the tokens of Stanford CoreNLP's PTBTokenizer, in lower case and
without punctuation (Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server",
2015, section 4). `tokenize` yields those tokens.

Most chunks between blanks have been seen before, so the tokens of a chunk are remembered. A
decision that spans a blank (a phone number, "no. 5", "plan b. The dog") needs a digit, a "<" or a
lone letter before a full stop and a capital; a caption with one of them is scanned as a whole.
"""

from __future__ import annotations

import re

from captioner.metrics.ptb_rules import CLITIC, NOT, RULES

_MAX_REMEMBERED = 200_000
_LINE_ENDS = re.compile(r"[\n\v\f\r\x85\u2028\u2029]+")
_SPANS_BLANKS = re.compile(r"[\d<]|(?<![A-Za-z])[A-Za-z]\.\s+[A-Z]")
# Every rule looks ahead from the same place, so that one match tells how far each would reach:
# groups come in pairs, the token with its context and the token alone.
_RULES = re.compile("".join(f"(?:(?=(({token})(?:{context})))|)" for token, context in RULES))
_SHORT_FORM = re.compile(f"{CLITIC}|{NOT}")
_TWO_IN_ONE = frozenset(["cannot", "gonna", "gotta", "wanna", "lemme", "gimme"])

# What signs are called in the Penn Treebank, and which names are punctuation to remove. (That the
# brackets stay is how the literature scores: its list spells them in capitals, its tokens do not.)
_QUOTES = {"'": "'", "\x92": "'", "\u2019": "'", "\u203a": "'", "&apos;": "'"}
_QUOTES |= {"`": "`", "\x91": "`", "\u2018": "`", "\u201b": "`", "\u2039": "`"}
_QUOTES |= {"\x93": "``", "\xab": "``", "\u201c": "``", '"': "``", "&quot;": "``"}
_QUOTES |= {"\x94": "''", "\xbb": "''", "\u201d": "''"}
_NAMES = dict(zip("()[]{}", ["-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"], strict=True))
_NAMES |= {"\xbc": "1/4", "\xbd": "1/2", "\xbe": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_NAMES |= {"\xa2": "cents", "\xa3": "#", "\x80": "$", "\xa4": "$", "\u20a0": "$", "\u20ac": "$"}
_NAMES |= {"&amp;": "&", "&lt;": "<", "&gt;": ">", "\u2026": "...", "\xad": "-"}
_NAMES |= dict.fromkeys(["&MD;", "&mdash;", "&ndash;", *"\x96\x97\u2013\u2014\u2015"], "--")
_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_remembered: dict[str, tuple[str, ...]] = {}


def tokenize(text: str) -> list[str]:
    """Split one caption into lower-case Penn Treebank tokens without punctuation.

    Line separators inside the caption count as blanks. The result equals the words of the string
    that pycocoevalcap 1.2 makes with Stanford CoreNLP 3.4.1.
    """
    if _SPANS_BLANKS.search(text):
        return _scan(text)
    tokens: list[str] = []
    for chunk in text.split():
        found = _remembered.get(chunk)
        if found is None:
            found = _remember(chunk)
        tokens += found
    return tokens


def _remember(chunk: str) -> tuple[str, ...]:
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    plain = chunk.isascii() and chunk.isalpha() and chunk.lower() not in _TWO_IN_ONE
    tokens = (chunk.lower(),) if plain else tuple(_scan(chunk))
    _remembered[chunk] = tokens
    return tokens


def _scan(text: str) -> list[str]:
    """Take the longest match of all rules, again and again; skip what none of them matches."""
    text = _LINE_ENDS.sub(" ", text) + "\n"
    tokens: list[str] = []
    position = 0
    while position < len(text):
        spans = _RULES.match(text, position).regs
        reach, end = position, position
        for i in range(1, len(spans), 2):
            if spans[i][1] > reach:
                reach, end = spans[i][1], spans[i + 1][1]
        if end > position:
            name = _spell(text[position:end])
            if name not in _PUNCTUATION:
                tokens += name.lower().split()
        position = max(end, position + 1)
    return tokens


def _spell(token: str) -> str:
    """The Penn Treebank spelling of a token that was cut out of a text."""
    if token in _QUOTES:
        return _QUOTES[token]
    if token in _NAMES:
        return _NAMES[token]
    if not token.strip("-"):
        return "--"
    if not token.replace(" ", "").strip("."):
        return "..."
    if len(token) == 2 and token[0] in _QUOTES and not token[1].isalnum():
        return "".join(_QUOTES.get(sign, sign) for sign in token)
    if _SHORT_FORM.fullmatch(token):
        return re.sub(r"[\x92\u2019]|&apos;", "'", token)
    if token.replace("&amp;", "").isalpha():  # R&amp;B, but no address
        token = token.replace("&amp;", "&")
    token = token.replace("\xad", "")
    return token.replace("(", "-lrb-").replace(")", "-rrb-")
