"""Text of servers, made safe; times in words."""

from __future__ import annotations

import os
import time
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace_cli.text import day_or_time, duration, one_line, parse_time, size, visible, width


@given(st.text(st.characters(), max_size=400))
def test_no_text_acts_on_a_terminal(text: str) -> None:
    """Whatever a server sends, what is shown is one bounded line of printed characters."""
    shown = one_line(text)
    assert len(shown) <= 10 * 300
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [one for one in shown if unicodedata.category(one) in hidden]
    shown.encode()  # no lone surrogate is left


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("api", "api"),
        ("Grüße 日本", "Grüße 日本"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        (None, "None"),
        (["x"], "['x']"),
    ],
)
def test_what_is_hidden_is_shown_as_its_number(text: object, shown: str) -> None:
    """A character that is not printed as itself stands as an escape."""
    assert one_line(text) == shown


def test_lines_of_our_own_keep_their_newlines() -> None:
    """Only what is named stays."""
    assert visible("a\nb\x07", keep="\n") == "a\nb\\x07"


def test_wide_and_combining_characters_are_counted_as_columns() -> None:
    """A table stays aligned."""
    assert [width(text) for text in ("api", "日本", "e\u0301")] == [3, 4, 1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (8.4, "8 s"),
        (119, "119 s"),
        (120, "2 min"),
        (22 * 60, "22 min"),
        (5 * 3600, "5 h"),
        (12 * 86400, "12 days"),
    ],
)
def test_a_time_span_is_said_as_people_say_it(seconds: float, words: str) -> None:
    """The unit fits the length."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("many", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KB"),
        (10 * 1024, "10 KB"),
        (1024**2 - 1, "1.0 MB"),
        (812 * 1024**2, "812 MB"),
        (3650722201, "3.4 GB"),
        (10**18, "909495 TB"),
    ],
)
def test_a_number_of_bytes_is_said_as_people_say_it(many: int, words: str) -> None:
    """Small numbers have a digit behind the point."""
    assert size(many) == words


@pytest.mark.parametrize(
    ("zone", "shown"), [("UTC", "23:30"), ("Asia/Kolkata", "05:00"), ("America/New_York", "18:30")]
)
def test_times_are_in_the_persons_own_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, shown: str
) -> None:
    """A zone with half hours too; the day that counts is the one there."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        moment = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
        assert day_or_time(moment, moment + timedelta(minutes=1)) == shown
        assert day_or_time(moment, moment + timedelta(days=2)).endswith(shown)
        assert day_or_time(moment, moment + timedelta(days=20)).startswith("Nov 2")
        assert day_or_time(moment, moment + timedelta(days=400)).endswith(", 2026")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert "TZ" not in os.environ


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "",
        "yesterday",
        "2026-11-23",
        "2026-11-23T10:00:00",
        "9" * 100,
        {"at": 1},
        "2026-11-23T10:00:00+99:99",
    ],
)
def test_what_is_no_time_counts_as_absent(value: object) -> None:
    """A time without a zone is none, either."""
    assert parse_time(value) is None


def test_a_year_that_no_clock_has_is_still_shown() -> None:
    """The first and the last year cannot be had in other zones."""
    for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        moment = parse_time(text)
        assert moment is not None
        assert day_or_time(moment, datetime(2026, 11, 23, tzinfo=UTC))
