"""The bench says what has got worse since its last result on the same machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.comparison import compare_and_keep, kept_file, worse


def figures(**row: float) -> dict[str, Any]:
    """Return the figures of a bench with one row."""
    return {"a_part": {"list": row}}


@pytest.mark.parametrize(
    ("column", "before", "now", "is_worse"),
    [
        ("median_ms", 1.0, 1.21, True),
        ("median_ms", 1.0, 1.19, False),
        ("median_ms", 1.0, 0.1, False),
        ("cpu_ratio", 0.7, 0.9, True),
        ("megabytes", 100, 130, True),
        ("reads", 0, 1, True),
        ("reads", 2, 2, False),
        ("per_second", 500, 400, True),
        ("per_second", 500, 900, False),
        ("per_minute_by_queue", 200, 100, True),
        ("threads", 4, 16, False),
    ],
)
def test_a_figure_that_is_worse_by_more_than_a_fifth_is_named(
    column: str, before: float, now: float, *, is_worse: bool
) -> None:
    """Less is better, except of what there is per time; some figures are neither."""
    lines = list(worse(figures(**{column: before}), figures(**{column: now})))
    expected = [f"a_part / list / {column}: {before:g} before, {now:g} now"]
    assert lines == (expected if is_worse else [])


def test_times_are_not_compared_where_there_is_a_ratio_of_the_same_run() -> None:
    """A busy machine makes everything slower; a ratio stays."""
    before = figures(cpu_ms=1, per_second=500, seconds=1, megabytes=10, cpu_ratio=0.7)
    now = figures(cpu_ms=3, per_second=100, seconds=3, megabytes=30, cpu_ratio=0.9)
    assert [line.partition(":")[0] for line in worse(before, now)] == [
        "a_part / list / megabytes",
        "a_part / list / cpu_ratio",
    ]


def test_floors_and_figures_that_are_new_or_gone_are_not_compared() -> None:
    """They say nothing of the Hub, or nothing yet."""
    before = {"imports": {"floor": {"seconds": 1}, "gone": {"seconds": 1}}, "ready_seconds": 1}
    now = {"imports": {"floor": {"seconds": 9}, "new": {"seconds": 9}}, "ready_seconds": 9}
    assert list(worse(before, now)) == ["ready_seconds: 1 before, 9 now"]


def test_each_result_is_compared_with_the_one_before(tmp_path: Path) -> None:
    """The first has none; after that, what got slower is named once."""
    path = tmp_path / "new" / "kept.json"
    assert "no earlier result" in compare_and_keep(figures(reads=1), path)[0]
    assert compare_and_keep(figures(reads=2), path) == ["a_part / list / reads: 1 before, 2 now"]
    assert "Nothing is worse" in compare_and_keep(figures(reads=2), path)[0]


def test_results_of_other_machines_are_kept_apart() -> None:
    """Figures of another processor or Python are no measure."""
    assert kept_file("one processor") != kept_file("another processor")
    assert kept_file() == kept_file()
