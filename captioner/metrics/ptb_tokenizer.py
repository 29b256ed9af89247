"""Penn Treebank tokenization of captions, without Java.

Captions are scored on the tokens of Stanford CoreNLP's PTBTokenizer, in lower case and without
punctuation (Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server", 2015,
section 4). `tokenize` returns those tokens.

The tokens of each chunk between spaces are cached, because most chunks recur. A token can extend
over a space only if there is a digit ("no. 5", a phone number), a "<", or a single letter before a
full stop and a capital ("plan b. The dog"); a caption with one of these is scanned as a whole.
"""

from __future__ import annotations

import re

from captioner.metrics.ptb_rules import CLITIC, NOT, RULES

_MAX_CACHED = 200_000
_LINE_ENDS = re.compile(r"[\n\v\f\r\x85\u2028\u2029]+")
_SPANS_SPACES = re.compile(r"[\d<]|(?<![A-Za-z])[A-Za-z]\.\s+[A-Z]")
# Every rule is a lookahead from the same position, so that one match gives the end of each rule.
# Groups come in pairs: the token with its context, and the token alone.
_RULES = re.compile("".join(f"(?:(?=(({token})(?:{context})))|)" for token, context in RULES))
_SHORT_FORM = re.compile(f"{CLITIC}|{NOT}")
_SPLIT_WORDS = frozenset(["cannot", "gonna", "gotta", "wanna", "lemme", "gimme"])

# Names of signs in the Penn Treebank, and the names that are removed as punctuation. Brackets are
# not removed: the list of the COCO evaluation code has them in upper case, its tokens are in lower.
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

_cache: dict[str, tuple[str, ...]] = {}


def tokenize(text: str) -> list[str]:
    """Split one caption into lower-case Penn Treebank tokens without punctuation.

    Line separators inside the caption count as spaces. The result equals the words of the string
    that pycocoevalcap 1.2 returns with Stanford CoreNLP 3.4.1.
    """
    if _SPANS_SPACES.search(text):
        return _scan(text)
    tokens: list[str] = []
    for chunk in text.split():
        cached = _cache.get(chunk)
        if cached is None:
            cached = _tokenize_chunk(chunk)
        tokens += cached
    return tokens


def _tokenize_chunk(chunk: str) -> tuple[str, ...]:
    if len(_cache) >= _MAX_CACHED:
        _cache.clear()
    plain = chunk.isascii() and chunk.isalpha() and chunk.lower() not in _SPLIT_WORDS
    tokens = (chunk.lower(),) if plain else tuple(_scan(chunk))
    _cache[chunk] = tokens
    return tokens


def _scan(text: str) -> list[str]:
    """Take the longest match of all rules repeatedly; skip characters that match none."""
    text = _LINE_ENDS.sub(" ", text) + "\n"
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match = _RULES.match(text, position)
        assert match is not None  # every rule is optional
        spans = match.regs
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
    """Return the Penn Treebank spelling of a token."""
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
    if token.replace("&amp;", "").isalpha():  # R&amp;B, but not an address
        token = token.replace("&amp;", "&")
    token = token.replace("\xad", "")
    return token.replace("(", "-lrb-").replace(")", "-rrb-")
