"""The token classes of Penn Treebank tokenization, as regular expressions.

The classes reproduce Stanford CoreNLP 3.4.1, the tokenizer of the COCO evaluation code. They were
derived from its output on every character of the Basic Multilingual Plane, on every word of up to
four letters before a full stop, and on random strings. `RULES` lists (token, right context) pairs;
the scanner in `captioner.metrics.ptb_tokenizer` takes the pair that matches the most characters,
context included, and the first of equal ones. Difference: letters that Unicode added after
version 6 count as letters here, while CoreNLP drops them.

Source of the conventions: Marcus, Santorini, Marcinkiewicz, "Building a Large Annotated Corpus of
English: The Penn Treebank" (Computational Linguistics 1993).
"""

from __future__ import annotations

# White space, including line separators, because a caption is one line.
_SPACE = r" \t\n\v\f\r\x85\xa0\u2000-\u200a\u2028\u2029\u3000"
# Combining marks and similar characters: part of a word, but not of a compound with digits or
# hyphens.
_MARKS = (
    r"\xad\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02eb\u02ed\u02ef-\u036f\u0375\u0378\u0379\u0384"
    r"\u0385\u03f6\u0483-\u0487\u055a-\u055f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    r"\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06e4\u06e7-\u06ed\u06fd\u06fe\u070f\u0711"
    r"\u0730-\u074c\u07a6-\u07b0\u07eb-\u07f3\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955\u0962"
    r"\u0963\u0981-\u0983\u09bc\u09be-\u09c4\u09c7\u09c8\u09cb-\u09cd\u09d7\u09e2\u09e3"
    r"\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc\u0abe-\u0acf\u0b82\u0bbe-\u0bc2"
    r"\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d44\u0d46-\u0d48\u0e31"
    r"\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd"
)
# Numerals that `\w` matches although they are neither letters nor digits, digits that Unicode added
# later, and all characters beyond the Basic Multilingual Plane.
_NOT_LETTERS = (
    r"\xb2\xb3\xb9\xbc-\xbe\u09f4-\u09f9\u0b72-\u0b77\u0bf0-\u0bf2\u0c78-\u0c7e\u0d58-\u0d5e"
    r"\u0d70-\u0d78\u0de6-\u0def\u0f2a-\u0f33\u1369-\u137c\u16ee-\u16f0\u17f0-\u17f9\u19da"
    r"\u2070-\u2089\u2150-\u2182\u2185-\u2189\u2460-\u24ff\u2776-\u2793\u2cfd\u3007\u3021-\u3029"
    r"\u3038-\u303a\u3192-\u3195\u3220-\u3229\u3248-\u325f\u3280-\u3289\u32b1-\u32bf"
    r"\ua6e6-\ua6ef\ua830-\ua835\ua9f0-\ua9f9\U00010000-\U0010ffff"
)
# Signs that are a token each. Characters of no class (emoji, private use, controls) are dropped.
_SIGNS = (
    r"!-/:-@\[-`{-~\xa1-\xad\xae-\xb1\xb4\xb6-\xb8\xbb-\xbf\xd7\xf7\x80\x91-\x94\u037e\u0387"
    r"\u0589\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060c\u0614\u061b\u061e"
    r"\u061f\u066a\u066d\u06d4\u0700-\u070d\u07f6-\u07f8\u0964\u0965\u0e3f\u0e4f\u1fbd"
    r"\u2016-\u2023\u2026\u2030-\u203b\u203e\u2040-\u2042\u2044\u207a-\u207e\u208a-\u208e\u20a0"
    r"\u20a4\u20ac\u2100\u2101\u2103-\u2106\u2108\u2109\u2114\u2116-\u2118\u211e-\u2123\u2125"
    r"\u2127\u2129\u212e\u213a\u213b\u2140-\u2144\u214a-\u214d\u214f\u2153-\u215e\u2190-\u2bff"
    r"\u3001\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1"
    r"\uffe5\uffe6"
)
# Abbreviations that keep their full stop: in any case, not in lower case, not in upper case, and
# only before a number.
_ABBREVIATIONS = """
    adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig
    bros calif capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec
    ens esq est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul
    jun kan kans ky lieut lt ltd maj mar md messrs mich minn mlle mme mo mon mont mr mrs ms msgr mt
    natl neb nev nov oct okla penn pfc ph plc pres prof profs pvt rd rep reps rev rt sen sens sep
    sept seq sfc sgt spc sq sr st ste supt supts sys tel tenn thu thurs treas tue tues univ va vs
    vt wed wis wisc wm wyo
"""
_NEVER_LOWER = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
_NEVER_UPPER = "mfg mtg ppte ppty pte ptes pty ptys"
_BEFORE_NUMBER = "art ca figs fig nos no op pp prop"
# A single letter keeps its full stop unless one of these words follows, as the start of a sentence.
_OPENERS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last
    Many More Now Once One Other Our She Since So Some Such That The Their Then There These They
    This We What When While Yet You
"""
_EXTENSIONS = """
    class docx html java jpeg bat bmp cgi cpp dll doc exe gif htm jar jpg mov mp3 pdf php png ppt
    sql tar txt wav xml zip gz pl ps py c h x
"""


def _any_of(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


def _capital(words: str, *, rest_any_case: bool) -> str:
    rest = "(?i:{})" if rest_any_case else "{}"
    return "(?:" + "|".join(w[0].upper() + rest.format(w[1:].lower()) for w in words.split()) + ")"


_L = rf"(?:[^\W\d_{_NOT_LETTERS}]|[{_MARKS}])"  # a letter or mark
_A = rf"[^\W_{_NOT_LETTERS}]"  # a letter or digit
_LA = rf"(?:[^\W_{_NOT_LETTERS}]|[{_MARKS}])"
_APOS = r"(?:['\x92\u2019]|&apos;)"
_TICK = r"(?:['\x92\u2019`\x91\u2018\u201b]|&apos;)"
_WORD = rf"{_L}{_LA}*(?:[.!?]{_L}{_LA}*)*"
CLITIC = rf"{_APOS}(?:(?i:[msd]|re|ve|ll))"
NOT = rf"[nN]{_APOS}[tT]"
_NUMBER = r"(?:\d*(?:[.:,\xad\u066b\u066c]\d+)+|\d+)"
_THING = rf"(?:[dDoOlL]{_TICK}{_A})?{_A}+"
_THINGS = rf"{_THING}(?:[-_\u058a\u2010\u2011]{_THING})*"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_GAP = r"[- \xa0]"
_IN_ADDRESS = r"[^ \t\n\f\r\xa0\"<>|(){}]"
_IN_SITE = r"[^ \t\n\f\r\"<>|(){}.!?,]"
_NO_STOP = r"(?<![.!?,-])"  # a stop after an address belongs to the sentence
_PATH = rf"(?:/{_IN_ADDRESS}{{2,}}{_NO_STOP})?"
_EYE = r"[-^x=~<>']"

# (token, right context). The scan continues after the token, so the context is scanned again.
RULES: tuple[tuple[str, str], ...] = (
    (r"<[!?][A-Za-z-][^>]*>|</?[A-Za-z][A-Za-z0-9:.-]*(?: +[^<>]*)?/?>", ""),  # markup
    (r"-(?:[LR][RCS]B|[lr][rcs]b)-", ""),  # brackets in their Penn Treebank spelling
    (r"&(?:MD|mdash|ndash);|[\x96\x97\u2013-\u2015]", ""),  # dashes
    # two words written as one
    (r"(?i:can)", r"(?i:not)"),
    (r"(?i:gon|wan)", r"(?i:na)"),
    (r"(?i:got)", r"(?i:ta)"),
    (r"(?i:lem|gim)", r"(?i:me)"),
    (r"'[tT]", r"(?i:is|was)"),
    # words and their clitics
    (_WORD, CLITIC),
    (rf"{_L}{_LA}*?", rf"{NOT}[^A-Za-z]"),
    (rf"{CLITIC}|{NOT}", r"[^A-Za-z]"),
    (_WORD, ""),
    # compounds
    (_THINGS, ""),
    (_THINGS, CLITIC),
    (rf"(?:{_THINGS}|{_WORD})\.", r"[,;:\u3001]"),
    (r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", ""),
    (rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}", ""),
    (r"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9\xad]+))+", ""),
    # words with an apostrophe inside or in front
    (rf"{_APOS}[nN]{_APOS}?|[lLdDjJ]{_APOS}", ""),
    (rf"[yY]{_APOS}", _L),
    (rf"[A-HJ-XZn]{_TICK}{_L}{{2,}}", ""),
    (rf"{_L}+[aeiouyAEIOUY]{_TICK}[aeiouA-Z]{_L}*", ""),
    (rf"{_APOS}(?:[2-9]0s|\d\d|(?i:em|till?|cause))|(?i:ol|somethin|dunkin){_APOS}", ""),
    (rf"(?i:c{_APOS}mon|s{_APOS}mores|ev{_APOS}ry|nor{_APOS}easter|(?:li|nat){_APOS}l)", ""),
    ("'", r"[A-Za-z][^ \t\n\r\xa0]"),  # an opening quotation mark
    (_APOS, r"\d\d[^ \t\n\r\xa0]"),
    (CLITIC, ""),
    # addresses
    (rf"https?://{_IN_ADDRESS}{{2,}}{_NO_STOP}", ""),
    (rf"www\.(?:{_IN_SITE}+\.)+[a-zA-Z]{{2,4}}{_PATH}", ""),
    (rf"(?:[^\s!-\"$'()`{{|}},-_]+\.)+(?:com|net|org|edu){_PATH}", ""),  # lower case, no digits
    (rf"<?[a-zA-Z0-9]{_IN_ADDRESS}*@(?:(?!\.){_IN_ADDRESS})+(?:\.(?:(?!\.){_IN_ADDRESS})+)*>?", ""),
    (rf"[@\uff20][a-zA-Z_][a-zA-Z_0-9]*|[#\uff03]{_L}+", ""),
    # abbreviations and initials
    (rf"(?i:{_any_of(_ABBREVIATIONS)})\.", ""),
    (rf"{_capital(_NEVER_LOWER, rest_any_case=True)}\.", ""),
    (rf"(?:{_any_of(_NEVER_UPPER)}|{_capital(_NEVER_UPPER, rest_any_case=False)})\.", ""),
    (rf"(?i:{_any_of(_BEFORE_NUMBER)})\.", rf"[{_SPACE}]?\d"),
    (r"[A-Za-z]", rf"\.[{_SPACE}]+{_capital(_OPENERS, rest_any_case=True)}[{_SPACE}]"),
    (r"[A-Za-z](?:\.[A-Za-z])*\.|Ph\.D\.", ""),
    (rf"(?:{_L}|\d)+(?:\.(?:{_L}|\d)+)*\.(?i:{_any_of(_EXTENSIONS)})", rf"[{_SPACE}.,?!]"),
    # numbers
    (rf"[-+]?{_NUMBER}", ""),
    (r"(?:\d{1,4}[- \xa0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}", ""),
    (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", ""),
    (rf"\([0-9]{{2,3}}\)[ \xa0]?[0-9]{{3,4}}{_GAP}?[0-9]{{3,5}}", ""),  # telephone
    (rf"\+{{0,2}}(?:[0-9]{{2,4}}{_GAP}){{1,2}}[0-9]{{3,4}}{_GAP}?[0-9]{{3,5}}", ""),
    (r"(?:\+{0,2}[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", ""),
    (r"[A-Z]*\$", ""),
    # emoticons
    (r"[<>]?[:;=][-'*o]?[\[\](){@|\\DPdpO]", r"[^A-Za-z0-9]"),
    (rf"{_EYE}_{_EYE}|\({_EYE}[_.]?{_EYE}\)|\([\^x=~<>']-[\^x=~<>'`]\)", ""),
    # signs
    (r"[cC](?:\+\+|#)|F#", ""),
    (r"(?:\.[ \xa0]){2,4}\.|\.{3,5}", ""),
    (r"[?!]+|-+|@+|#+|_+|\*+|(?:\\\*){1,3}|<<|>>|''|[\xb2\xb3\xb9\u2070\u2074-\u2079]+", ""),
    (r"[\u2080-\u2089]+|[`\x91-\x94\x82\x84\xab\xbb\u2018-\u201f\u2039\u203a]{1,2}|\u20ac", ""),
    (rf"&(?:quot|apos|amp|lt|gt);|[{_SIGNS}]", ""),
)
