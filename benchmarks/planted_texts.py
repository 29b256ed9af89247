"""Texts that `benchmarks/data_quality.py` plants in a data set."""

from __future__ import annotations

import random

OPEN_WORDS = {"a", "an", "the", "of", "with", "and", "in", "his", "at", "to", "is", "from"}
"""Words after which captions are cut off."""
BOILERPLATE = [
    "Image may contain : outdoor , one or more people .",
    "No description available for this photo .",
    "Photo uploaded by user , all rights reserved .",
    "Please click to enlarge the picture .",
    "This is a picture from my vacation .",
]
MARKUP = [
    "<b>TEXT</b>", "<p class='caption'>TEXT.</p>", "TEXT &amp; more", "&quot;TEXT&quot;",
    "TEXT https://example.com/photo?id=12", "www.example.org TEXT", "[b]TEXT[/b]", "TEXT &nbsp;.",
    "TEXT<br/>", "[TEXT](http://example.com)", '<a href="x.html">TEXT</a>',
    "TEXT &#39;s .", "<span>TEXT</span> .",
]  # fmt: skip
FOREIGN = [
    "Ein brauner Hund rennt über die Wiese .", "Zwei Kinder spielen im Sand am Strand .",
    "Der Mann fährt mit dem Fahrrad durch den Wald .", "Eine Frau sitzt auf einer Bank im Park .",
    "Drei Jungen springen vom Steg ins Wasser .", "Das Mädchen trägt ein rotes Kleid und lacht .",
    "Ein Skifahrer fährt den verschneiten Hang hinunter .",
    "Mehrere Leute warten an einer Haltestelle auf den Bus .",
    "Die Fußballspieler kämpfen um den Ball .", "Ein Kletterer hängt an einer steilen Felswand .",
    "Un chien noir court dans la neige .", "Deux enfants jouent au ballon dans le jardin .",
    "Une femme vêtue de bleu traverse la rue .", "Le garçon saute dans la piscine .",
    "Un homme assis sur un rocher regarde la mer .", "Des gens font la queue devant le magasin .",
    "La petite fille mange une glace .", "Un cycliste descend une route de montagne .",
    "Trois femmes dansent sur une scène .", "Un chien mouillé sort de la rivière .",
    "Un perro marrón corre por la hierba .", "Dos niños juegan en la playa con una pelota .",
    "Una mujer camina por la calle con su hijo .", "El hombre lleva un sombrero negro .",
    "Tres personas están sentadas en un banco .", "La niña salta sobre la cama .",
    "Un ciclista sube la montaña .", "Los jugadores celebran un gol en el estadio .",
    "Un grupo de gente mira los fuegos artificiales .", "El perro blanco nada en el lago .",
    "Un cane nero corre sulla spiaggia .", "Due bambini giocano nel parco con la palla .",
    "Een hond rent door het hoge gras .", "Twee mannen zitten op een bankje in het park .",
    "Dois meninos jogam futebol na praia .", "Uma mulher está sentada perto da janela .",
    "Dwa psy biegną po śniegu .", "En pojke hoppar från bryggan i vattnet .",
]  # fmt: skip
SHORT_FOREIGN = [
    "Ein Hund im Schnee", "Zwei Frauen lachen laut", "Der Junge schwimmt schnell",
    "Ein Mann klettert hoch", "Kinder spielen draußen Ball", "Mädchen mit rotem Hut",
    "Ein Reiter auf seinem Pferd .", "Viele Menschen feiern auf der Straße",
    "Un garçon mange une pomme", "Deux chiens dans la neige", "Une fille avec un chapeau rouge",
    "Des enfants sur la plage", "Le chat dort au soleil", "Un homme lit le journal .",
    "Quatre amis près du feu", "Elle porte une robe verte",
    "El niño come una manzana", "Dos perros en la nieve", "Una chica con sombrero rojo",
    "Los amigos cantan juntos", "Un hombre lee el periódico .", "Ella lleva un vestido verde",
    "Mucha gente en la plaza", "El gato duerme al sol",
    "Una ragazza con il cappello rosso", "Il ragazzo mangia una mela",
    "Een jongen eet een appel", "Twee honden in de sneeuw", "Dwóch chłopców gra w piłkę",
    "Женщина сидит на скамейке в парке", "Собака бежит по снегу", "子供たちが公園で遊んでいる",
    "一只狗在雪地里奔跑", "Två hundar i snön", "To hunde løber i sneen", "Bir köpek karda koşuyor",
]  # fmt: skip
NATURAL_TEXTS = {
    "Two girls playing on the",
    "A black and white dog catc",
    "A little girl feeds a",
    "A group of",
    "A performer wearing a h",
    "A little girl pushes a merry go round in a park while two other kids hold on . ee",
    "A guy with long brown curly hair wearing a white t-shirt is looking into the camera with"
    " something in his mouth . a",
}
"""Truncated captions of Flickr8k, labelled by hand among all findings of this kind."""
_ACCENTS = {"a": "áàâä", "e": "éèê", "i": "íî", "o": "óôö", "u": "üú", "n": "ñ"}


def damage_encoding(caption: str, rng: random.Random) -> str | None:
    """Return a caption with accents or typographic quotes that was decoded wrongly."""
    words = caption.split()
    i = rng.randrange(len(words))
    variant = rng.choice(["quotes", "apostrophe", "accent", "dash", "ellipsis"])
    if variant == "quotes":
        words[i] = f"\u201c{words[i]}\u201d"
    elif variant == "apostrophe":
        words[i] += "\u2019s"
    elif variant == "accent":
        letters = [k for k, letter in enumerate(words[i]) if letter in _ACCENTS]
        if not letters:
            return None
        k = rng.choice(letters)
        words[i] = words[i][:k] + rng.choice(_ACCENTS[words[i][k]]) + words[i][k + 1 :]
    elif variant == "dash":
        words.insert(i, "\u2013")
    else:
        words.append("\u2026")
    data = " ".join(words).encode("utf-8")
    # Not every byte is defined in Windows-1252.
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")
