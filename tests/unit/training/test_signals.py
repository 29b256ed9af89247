"""Reasons to stop a run."""

from __future__ import annotations

import math

import pytest

from captioner.training.signals import BadSteps, Diverged


def test_consecutive_steps_without_a_finite_gradient_are_counted():
    bad = BadSteps(3)
    result = [bad.record(norm) for norm in (1.0, math.nan, math.inf, 2.0)]
    assert result == [False, True, True, False]
    assert [bad.record(math.nan) for _ in range(2)] == [True, True]
    with pytest.raises(Diverged, match="3 steps"):
        bad.record(math.nan)


def test_a_stage_that_ends_in_skipped_steps_is_an_error():
    bad = BadSteps(10)
    for norm in (1.0, math.nan, math.nan):
        bad.record(norm)
    bad.check_end(4)
    with pytest.raises(Diverged, match="the last 2 of 3 steps"):
        bad.check_end(3)
