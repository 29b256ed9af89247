"""Images are mirrored only where left and right of their texts can be swapped."""

from __future__ import annotations

import pytest

from captioner.data import can_flip
from captioner.data.mirrored_text import is_english

NAMES_A_SIDE = """
ein Hund liegt links neben dem Baum
Hund rechts
un chien à gauche
une femme se tient à droite
un perro a la izquierda
el hombre de la derecha
um cachorro à esquerda
uma casa à direita
un cane a sinistra
un uomo a destra
een hond links op de foto
en hund till vänster
en hund til venstre
koira on vasemmalla
pies po lewej stronie
pes vlevo
köpek solda
anjing di sebelah kiri
con chó ở bên trái
kutya a bal oldalon
左に犬がいる
一只狗在左边
개가 왼쪽에 있다
собака слева от дерева
الكلب على اليسار
הכלב משמאל
कुत्ता बाईं ओर
สุนัขทางซ้าย
σκύλος αριστερά
hundur vinstra megin
suns pa labi
hond staan regs
madra ar dheis
""".strip().splitlines()

OTHER_LANGUAGES = """
ein Hund läuft über die Wiese
zwei Kinder spielen mit einem Ball
un chien court dans l'herbe
deux enfants jouent sur la plage
dos perros corren por la playa
dois meninos na praia
due bambini sulla spiaggia
twee honden rennen op het strand
två hundar springer på stranden
kaksi koiraa juoksee rannalla
dwa psy biegną po plaży
iki köpek sahilde koşuyor
dua anjing dengan bola
Ёлка
""".strip().splitlines()

ENGLISH = """
a dog runs on the grass
red circle
dog
two men at a café
a man in a Los Angeles cap on the beach
a fiancée and her dog
a white van
the naïve art on the wall
THE DOG
""".strip().splitlines()


@pytest.mark.parametrize("text", NAMES_A_SIDE)
def test_a_side_in_another_language_keeps_an_image_unmirrored(text):
    assert not can_flip(text)
    assert not can_flip(text.lower())


@pytest.mark.parametrize("text", OTHER_LANGUAGES)
def test_other_languages_are_recognized(text):
    assert not is_english(text)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_recognized(text):
    assert is_english(text)
    assert can_flip(text)


def test_emoji_and_digits_are_no_language():
    assert is_english("🐻 2 + 2 = 4 !")


@pytest.mark.parametrize(
    "text", ["dog in the upperleft", "cat in the bottomright corner", "topleft"]
)
def test_compounds_of_sides_are_not_swapped(text):
    assert not can_flip(text)
