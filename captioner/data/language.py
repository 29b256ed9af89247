"""Whether left and right can be swapped in the language of a text: only in English.

A mirrored image makes "links", "à gauche" or "左" untrue, and only English words are swapped. A
text in doubt counts as another language: its image is then not mirrored, which costs augmentation
but teaches nothing false. The word lists hold function words that English does not have, and the
words for left and right of languages in Latin script.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset(
    _WORD.findall(
        """the and of with are his her their its is an at to from for by as that this while through
        into over near two three some they he she it up down out off there who which"""
    )
)
# By line: German; Dutch; French; Spanish and Catalan; Portuguese; Italian and Romanian; Nordic;
# Finnish and Hungarian; Slavic; Turkish, Indonesian and Swahili.
_OTHER = frozenset(
    _WORD.findall(
        """der das dem ein eine einem einen einer und mit auf zwei sind ist neben vor hinter zum zur
        een het met twee naast zijn wordt staat zit bij aan einige steht sitzt
        le la les une des du dans sur avec et est deux qui aux au sous
        el los las una uno con en y por sobre junto esta dos amb dels els
        uma umas com em ao na nas nos um dois
        il gli di che nel nella sul sulla della delle due si cu pe din
        ett och med som av og til ved
        ja kaksi seisoo istuu egy az
        na z w jest oraz dwa dwoje przy obok je se ve jsou dva dvije kod
        bir ile iki yang dengan sebuah seorang pada atas katika"""
    )
)
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


def is_english(text: str) -> bool:
    """Return whether nothing tells that a text is in another language than English."""
    if _NOT_LATIN.search(text) or _SIDES.search(text):
        return False
    words = _WORD.findall(text.lower())
    english, other = (sum(word in some for word in words) for some in (_ENGLISH, _OTHER))
    return other <= english and not (_ACCENT.search(text) and not english)
