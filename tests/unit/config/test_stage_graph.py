"""The graph of the stages: names, starts, image sizes and their errors."""

from __future__ import annotations

import pytest

from captioner.config import load_config
from captioner.config.stage_graph import find_size, find_start, stage_names
from captioner.errors import ConfigError


def stages(text: str):
    return load_config(None, [f"train.stages=[{text}]"]).train.stages


BRANCHES = stages(
    "{name: base, size: 64}, {name: a, size: 96}, {name: b, start: base}, {},"
    " {name: soup, average: [a, b], epochs: 0}, {name: c, start: a}"
)


def test_stage_without_a_name_is_named_by_its_number():
    assert stage_names(BRANCHES) == ["base", "a", "b", "3", "soup", "c"]
    assert stage_names(stages("{}, {}")) == ["0", "1"]


def test_stage_starts_from_the_previous_one_or_the_named_one():
    assert [find_start(BRANCHES, n) for n in range(6)] == [None, 0, 0, 2, 2, 1]


def test_image_size_is_that_of_the_start_unless_set():
    assert [find_size(BRANCHES, n, 32) for n in range(6)] == [64, 96, 64, 64, 64, 96]
    assert find_size(stages("{}, {}"), 1, 32) == 32


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{name: a}, {name: a}", ["stages.1.name=a", "stage 0"]),
        ("{name: '1'}, {}", ["stages.1.name=1", "stage 0"]),
        ("{name: a/b}", ["stages.0.name='a/b'", "letters"]),
        ("{name: ..}", ["stages.0.name='..'"]),
        ("{name: a}, {start: x}", ["stages.1.start=x", "not a stage", "earlier ones are: a"]),
        ("{start: b}, {name: b}", ["stages.0.start=b", "not an earlier stage", "none"]),
        ("{}, {average: ['0', '1']}", ["stages.1.average=1", "not an earlier stage"]),
        ("{}, {average: ['0', y]}", ["stages.1.average=y", "not a stage"]),
        ("{}, {average: ['0'], start: '0'}", ["stages.1", "start and average"]),
        ("{}, {epochs: 0}", ["stages.1", "epochs=0", "average"]),
        ("{snapshots: 0}", ["snapshots=0"]),
        ("{size: 0}", ["size=0"]),
        ("{min_scale: 0}", ["min_scale=0"]),
        ("{jitter: 2}", ["jitter=2"]),
        ("{weights: [0]}", ["weights=(0.0,)", "one of them above 0"]),
        ("{weights: [-1]}", ["weights=(-1.0,)"]),
    ],
)
def test_error_of_a_stage_names_the_setting(text, parts):
    with pytest.raises(ConfigError) as caught:
        stages(text)
    assert all(part in str(caught.value) for part in parts)


def test_source_may_have_weight_zero_in_a_stage():
    words = ["data.sources=[{root: a}, {root: b}]", "train.stages=[{weights: [0, 2]}]"]
    assert load_config(None, words).train.stages[0].weights == (0, 2)
