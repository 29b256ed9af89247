"""Left and right in captions of mirrored images."""

from __future__ import annotations

import pytest
from random_captions import random_captions

from captioner.data import (
    can_flip,
    flip_caption,
    mentions_side,
)
from captioner.data.mirrored_text import is_english


def test_flipping_twice_restores_caption():
    moved = 0
    for text in random_captions(3000):
        flipped = flip_caption(text)
        moved += flipped != text
        assert flip_caption(flipped) == text
        assert can_flip(flipped) == can_flip(text)
        assert mentions_side(flipped) == mentions_side(text)
        assert mentions_side(text) or flipped == text
        if can_flip(text) and mentions_side(text):
            assert flipped != text
    assert moved > 1000


@pytest.mark.parametrize(
    ("text", "flipped"),
    [
        ("A dog on the Left .", "A dog on the Right ."),
        ("the leftmost, RIGHT-hand door at top-left", "the rightmost, LEFT-hand door at top-right"),
        (
            "an injured right arm, left of the bright light",
            "an injured left arm, right of the bright light",
        ),
        ("an upright man eats leftovers", "an upright man eats leftovers"),
    ],
)
def test_flip_caption(text, flipped):
    assert flip_caption(text) == flipped


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("A dog .", True),
        ("bright leftovers", True),
        ("a man to the left of a right-handed pitcher", True),
        ("raises her right paw", True),
        ("basketball in right hand", True),
        ("at top left of frame", True),
        ("right in front of the camera", False),
        ("it is all right", False),
        ("water left behind", False),
        ("the dog left the house", False),
        ("a car going the right way", False),
        ("a left-over sandwich", False),
        ("on the rIGHT", False),
    ],
)
def test_can_flip(text, can):
    assert can_flip(text) is can


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
def test_side_in_another_language_cannot_be_flipped(text):
    assert not can_flip(text)
    assert not can_flip(text.lower())


@pytest.mark.parametrize("text", OTHER_LANGUAGES)
def test_other_languages_are_recognized(text):
    assert not is_english(text)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_recognized(text):
    assert is_english(text)
    assert can_flip(text)


def test_emoji_and_digits_count_as_english():
    assert is_english("🐻 2 + 2 = 4 !")


@pytest.mark.parametrize(
    "text", ["dog in the upperleft", "cat in the bottomright corner", "topleft"]
)
def test_compounds_of_sides_cannot_be_flipped(text):
    assert not can_flip(text)
