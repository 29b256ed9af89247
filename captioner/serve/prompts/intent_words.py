"""Word lists that distinguish requests for a caption from questions."""

from __future__ import annotations

from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


IMAGE = _words(
    "image images picture pictures photo photos photograph photographs pic pics img scene snapshot"
    " screenshot shot illustration drawing painting artwork visual"
)
CONTENT = _words(
    "content contents everything anything something all detail details element elements component"
    " components aspect aspects thing things part parts feature features whole subject matter theme"
    " topic focus point gist essence idea scenario situation events story"
)
"""Nouns for everything that an image shows."""
PERCEIVE = _words(
    "see observe notice perceive view witness discern make find spot recognize identify"
)
PRESENT = _words(
    "show shows depict depicts display displays illustrate illustrates represent represents portray"
    " portrays present presents capture captures convey conveys contain contains include includes"
    " feature features reveal reveals communicate communicates express expresses exhibit exhibits"
    " describe describes hold holds tell tells look looks"
)
"""Verbs whose subject is the image; their object is the content of a caption."""

TEXT = _words(
    "caption captions alt alttext description descriptions summary story narrative account"
    " explanation interpretation depiction overview rundown analysis sentence sentences paragraph"
    " tagline title headline hashtag hashtags poem subtitle blurb"
)
"""Nouns for a text about the whole image."""
PRINTED = _words("title headline subtitle tagline")
"""Nouns of `TEXT` that an object in the image can have."""

ATTRIBUTE = _words(
    "color colors colour colours shape shapes size sizes number count amount quantity age ages name"
    " names breed breeds type types kind kinds species brand gender sex weather mood expression"
    " expressions emotion emotions feeling feelings season material materials texture position"
    " location pose posture text word words letters price height length width weight direction"
    " activity action sport clothes clothing outfit time date temperature pattern ethnicity"
    " condition speed hairstyle occupation profession"
)
"""Nouns for a single property of an object."""

DESCRIBE = _words(
    "describe caption summarize summarise explain narrate portray depict characterize characterise"
    " clarify illustrate analyze analyse examine interpret outline sketch title recount relate"
    " report detail elaborate discuss break walk talk run"
)
CREATE = _words(
    "write generate create make produce compose give provide offer share present relay render show"
    " suggest draft craft prepare output return supply formulate send get propose invent come"
)
WRITE = _words("write generate create make produce compose draft craft")
"""The verbs of `CREATE` whose object is a text."""
ASK = _words(
    "tell say name identify count list read find guess estimate determine decide check state"
    " specify classify detect recognize recognise spot locate point pick choose compare verify"
    " confirm answer figure judge transcribe enumerate predict infer"
)
INSTRUCT = _words(
    "look be use focus keep start begin end respond reply mention avoid include exclude limit think"
    " consider imagine help ignore remember note see take have act pretend assume pay speak"
    " translate"
)
"""Verbs that specify the form of the answer and request nothing themselves."""
IMPERATIVES = DESCRIBE | CREATE | ASK | INSTRUCT

WH = _words("what which who whose whom where when why how")
AUXILIARIES = _words(
    "is are was were am do does did can could will would shall should may might must has have had"
)
SUBJECTS = _words(
    "the a an this that these those there it he she they we you i his her its their my your our"
    " any some anyone anybody someone somebody anything something everyone everybody all both most"
    " one no"
)
"""First words of a subject, except for names and plurals without an article."""

PRONOUNS = _words("i you he she it we they me us him her them")

GENERAL = (
    IMAGE
    | CONTENT
    | PERCEIVE
    | PRESENT
    | _words(
        "s re is are am was be being been do does did can could would will you we i me us it its"
        " this that these those there here the a an of in on at about to from for with by and or"
        " within inside going goes go happening happen happens happened occur occurs occurred"
        " occurring taking takes place unfolding seen looking like shown showing depicted depicting"
        " displayed represented visible contained presented portrayed captured illustrated featured"
        " observed main primary central focal key overall general entire exactly please know say"
        " else given attached following above below uploaded provided shared sent kind sort now"
        " currently really actually supposed briefly have got"
    )
)
"""A "what" question that consists of these words only asks about the whole image."""

PREPOSITIONS = _words(
    "of in on at for with by from to about under behind near into over between through within"
    " without across during after before against including above below beside inside"
    " outside around along like that which who whose where when so wearing holding being shown"
    " visible present presented provided given using as suitable"
)
GREETINGS = _words(
    "hi hello hey thanks thank you there good morning evening afternoon day bye ok okay test please"
    " pls plz yes no dear sir madam friend everyone"
)

FOREIGN_DESCRIBE = _words(
    "beschreib beschreibe beschreiben beschreibung bildbeschreibung décris décrivez décrire"
    " description légende descripción describa describe descríbeme descrivi descriva descrivere"
    " descrizione descreva descreve descrever descrição legenda"
)
FOREIGN_WH = _words(
    "wer wo wann warum wie wieviel welche welcher welches quel quelle quels quelles combien qui où"
    " quand pourquoi cuál cuántos cuántas quién dónde cuándo quale quanti quante chi dove quando"
    " perché qual quantas quantos quem onde"
)
"""Question words other than "what"."""
FOREIGN = (
    FOREIGN_DESCRIBE
    | FOREIGN_WH
    | _words(
        "was viele ist sind gibt es auf dem den der das"
        " diesem dieses du siehst sehen sieht man zeigt passiert hier bild foto zu im hat ein eine"
        " qu que quoi est ce c cette cet sur on"
        " voit vois voyez montre passe le la les un une des du de dans y il sont"
        " qué ves ve se muestra pasa hay en esta este el los las"
        " imagen aquí una es son"
        " che cosa cos si vedi vede mostra mostrano succede questa questo quest"
        " immagine nella nell di c'è è"
        " o por você vê está acontecendo nesta esta imagem na no há"
    )
)
"""Function words and general words in German, French, Spanish, Italian and Portuguese."""
ENGLISH = _words(
    "the is are this what how does picture you and what's which there many color any tell"
)
CJK_DESCRIBE = ("説明", "描述", "描写", "キャプション", "标题", "標題", "설명")
CJK_ASK = ("か", "何", "什么", "什麼", "吗", "嗎", "几", "多少", "谁", "誰", "哪", "까", "무엇")

_KEYWORDS = sorted(
    word for word in IMAGE | TEXT | DESCRIBE | CREATE | ASK | WH | AUXILIARIES if len(word) >= 4
)
_KNOWN = frozenset().union(
    *(IMAGE, CONTENT, TEXT, ATTRIBUTE, IMPERATIVES, WH, AUXILIARIES, SUBJECTS, GENERAL),
    *(PREPOSITIONS, GREETINGS, FOREIGN, ENGLISH),
)


@lru_cache(4096)
def correct_spelling(word: str) -> str:
    """Return the keyword that differs by two swapped letters or a missing one, or the word."""
    if len(word) < 3 or len(word) > 20 or word in _KNOWN:
        return word
    return next((keyword for keyword in _KEYWORDS if _misspells(word, keyword)), word)


def _misspells(word: str, keyword: str) -> bool:
    if len(word) == len(keyword):
        positions = [i for i, (a, b) in enumerate(zip(word, keyword, strict=True)) if a != b]
        return (
            len(positions) == 2
            and positions[1] == positions[0] + 1
            and word[positions[0]] == keyword[positions[1]]
            and word[positions[1]] == keyword[positions[0]]
        )
    if len(word) == len(keyword) - 1 and word[0] == keyword[0] and len(keyword) >= 5:
        return any(word == keyword[:i] + keyword[i + 1 :] for i in range(len(keyword)))
    return False
