"""Classification scores of answers and of the labels that captions name."""

from __future__ import annotations

import json
import re

import pytest
from test_tables import example

from captioner.errors import DataError
from captioner.evaluation import class_tables
from captioner.evaluation.class_tables import (
    MOST_CLASSES,
    MOST_CONFUSED,
    NO_LABEL,
    format_class_tables,
    parse_labels,
    tabulate_answers,
    tabulate_captions,
    tabulate_classes,
)
from captioner.metrics import OTHER, score_answers


def test_answers_are_scored_by_type():
    rows = [example(i, "is it?", "yes", "Yes.", "no") for i in range(3)]
    rows += [example(i, "is it?", "no") for i in range(3, 5)]
    rows += [example(5 + i, "what?", f"thing {i}") for i in range(MOST_CLASSES + 1)]
    rows += [example(90, "how many?", "2")]
    types = {row.question_id: row.question for row in rows}
    answers = dict.fromkeys(types, "YES!") | {"4": "no", "90": "two"}
    references = {row.question_id: row.references for row in rows}
    tables = tabulate_answers(references, answers, types)
    assert list(tables) == [class_tables.ALL, "is it?"]  # one class, or too many
    table = tables["is it?"]
    assert (table["examples"], table["classes"], table["accuracy"]) == (5, 2, 4 / 5)
    assert table["by class"]["yes"] == {"precision": 3 / 4, "recall": 1, "f1": 6 / 7, "support": 3}
    assert table["macro"]["recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert table["weighted"]["precision"] == pytest.approx((3 * 3 / 4 + 2) / 5)
    assert table["confusion"] == {"classes": ["yes", "no"], "counts": [[3, 0], [1, 1]]}
    whole = tables[class_tables.ALL]
    assert whole["macro"]["f1"] == score_answers(answers, references).macro_f1
    assert whole["classes"] == MOST_CLASSES + 4 > len(whole["by class"]) == MOST_CLASSES
    assert whole["confusion"]["classes"][MOST_CONFUSED:] == [OTHER]
    assert sum(map(sum, whole["confusion"]["counts"])) == len(rows)
    assert json.loads(json.dumps(tables)) == tables


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ([], "found none"),
        ([""], "found none"),
        (["dog", "!?"], "no words"),
        (["=dog"], "no words"),
        (["dog=barks|"], "no words"),
        (["dog=barks", "dog=bark"], "'dog' is given twice"),
        (["dog=pet", "cat=Pet!"], "'Pet!' is given twice"),
        (["\udcff"], "unprintable"),
    ],
)
def test_ambiguous_or_missing_labels_are_an_error(texts, problem):
    with pytest.raises(DataError, match=re.escape(problem)):
        parse_labels(texts)


def test_captions_are_scored_by_the_label_that_they_name():
    labels = parse_labels(["rain", " dog bark=barking dog|dog barks", "cat"])
    assert labels == {"rain": [], "dog bark": ["barking dog", "dog barks"], "cat": []}
    texts = {0: "a barking dog", 1: "rain falls", 2: "rain and a cat", 3: "rain", 4: "a cat"}
    references = {
        0: ["the dog barks"], 1: ["a dog barks", "barking dog"], 2: ["the rain"],
        3: ["rain", "cat"], 4: ["silence"],
    }  # fmt: skip
    rows = [example(0, "", *some, image=i) for i, some in references.items()]
    captions = {str(i): text for i, text in texts.items()}
    table = tabulate_captions(rows, captions, labels)
    assert (table["examples"], table["classes"]) == (3, 2)  # two images name no or two labels
    assert table["accuracy"] == pytest.approx(1 / 3)
    assert table["confusion"]["classes"] == ["dog bark", "rain", NO_LABEL]
    assert table["confusion"]["counts"] == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    with pytest.raises(DataError, match="name one of bird"):
        tabulate_captions(rows, captions, {"bird": []})


def test_lines_of_a_table():
    tables = {"all": tabulate_classes(["a", "b", "b"], ["a", "a", "b"])}
    lines = [line.split() for line in format_class_tables(tables)]
    assert lines[1] == ["all", "3", "2", "66.7", "75.0", "75.0", "66.7", "83.3", "66.7", "66.7"]
    assert lines[3:] == [["class", "/", "predicted", "a", "b"], ["a", "1", "1"], ["b", "0", "1"]]
