"""Chat prompts: their classification, and the question that is extracted."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("gradio")
from captioner.serve.prompts.intent import classify_intent

PROMPTS = Path(__file__).parents[1] / "data" / "chat_prompts.tsv"
LOWEST = 0.95


def rows() -> list[tuple[str, str]]:
    """Return the task and the text of each prompt."""
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines if not line.startswith("#")]
    return [(task, prompt.replace("\\n", "\n")) for task, prompt in pairs]


def is_development(prompt: str) -> bool:
    """Return whether a prompt is in the development half; the other half is held out."""
    return hashlib.sha256(prompt.replace("\n", "\\n").encode()).digest()[0] % 2 == 0


@pytest.mark.parametrize("development", [True, False], ids=["development", "held out"])
def test_prompts_are_classified_correctly(development: bool) -> None:
    half = [(task, text) for task, text in rows() if is_development(text) == development]
    wrong = [text for task, text in half if classify_intent(text).task != task]
    assert len(half) > 150
    assert len({task for task, _ in half}) == 2
    assert 1 - len(wrong) / len(half) >= LOWEST, wrong


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        # A direct question is unchanged.
        ("What color is the dog?", "What color is the dog?"),
        ("is there a dog", "is there a dog"),
        ("How many people are in the picture?", "How many people are in the picture?"),
        # Text that does not belong to the question is removed.
        ("Hi, what color is the bus?", "what color is the bus?"),
        ("You are a helpful assistant. What colour is the bus?", "What colour is the bus?"),
        ("Question: what is it doing? Answer:", "what is it doing?"),
        ("Answer yes or no: is there a dog?", "is there a dog?"),
        ("Is there a dog? Answer in one word.", "Is there a dog?"),
        ('Answer this: "Who is riding the horse?"', "Who is riding the horse?"),
        (
            "What is he holding? And who is behind him?",
            "What is he holding? And who is behind him?",
        ),
        # Indirect questions and requests become direct ones.
        ("Please tell me what color the dog is.", "what color is the dog?"),
        ("I wonder what the man is holding", "what is the man holding?"),
        ("Do you know where this is?", "where is this?"),
        ("Tell me if it is raining.", "is it raining?"),
        ("Tell me who is on the left.", "who is on the left?"),
        ("Tell me how many cars there are", "how many cars are there?"),
        ("Tell me the color of the dog", "what is the color of the dog?"),
        ("name the animal", "what is the animal?"),
        ("count the people", "how many people are there?"),
        ("Count the birds in the tree", "how many birds are in the tree?"),
        ("Tell me the number of people in the photo.", "how many people are in the photo?"),
        # A request without a clear direct form is unchanged.
        ("Name two objects on the table.", "Name two objects on the table."),
        ("The dog is what color?", "The dog is what color?"),
    ],
)
def test_question_is_extracted_in_direct_form(prompt: str, question: str) -> None:
    assert classify_intent(prompt).question == question


@pytest.mark.parametrize("noun", ["title", "headline"])
@pytest.mark.parametrize(
    ("rest", "task"), [("of the book", "question"), ("of this image", "caption"), ("", "caption")]
)
def test_the_text_of_an_object_is_no_caption(noun: str, rest: str, task: str) -> None:
    assert classify_intent(f"What is the {noun} {rest}?").task == task
    assert classify_intent(f"What would be a good {noun} {rest}?").task == task


@pytest.mark.parametrize("prompt", ["What is this?", "What do you see in the image?", "What?"])
def test_a_model_without_captions_gets_each_question(prompt: str) -> None:
    assert classify_intent(prompt).task == "caption"
    assert classify_intent(prompt, captions=False).question == prompt
    assert classify_intent("Describe it.", captions=False).question is None


@settings(max_examples=200)
@given(st.text(max_size=200) | st.lists(st.sampled_from([
    "what", "is", "the", "describe", "tell me", "if you could", "do", "to", "and", "please",
    "image", "color", "of", "?", ".", ",", ":", '"', "caption", "can you", "how many", "not", "in",
])).map(" ".join))  # fmt: skip
def test_any_text_is_classified(prompt: str) -> None:
    intent = classify_intent(prompt)
    assert (intent.task == "question") == bool(intent.question)


@pytest.mark.parametrize(
    "part",
    [
        *("a? ", "what ", '"', "“", ", ", "q:", "and what ", "can you ", "tell me if you could "),
        *("do describe ", "use to tell ", "in a b c words ", "in the ", "please ", "xyzzy"),
    ],
)
def test_long_prompts_are_fast(part: str) -> None:
    start = time.perf_counter()
    classify_intent((part * 10_000)[:10_000])
    assert time.perf_counter() - start < 2
