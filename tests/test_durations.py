"""Durations as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlewatch.durations import format_duration, parse_duration, written_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30m", 1800), ("1h30m", 5400), ("0.2s", 0.2), ("200ms", 0.2), ("0", 0), ("7d", 604800)],
)
def test_what_a_duration_means(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "-5m", "m", "5x", "30m1h", "1h1h", "1e3s", "nan", "5 minutes"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


@given(st.integers(0, 10**9))
def test_what_is_written_reads_back_exactly(milliseconds: int) -> None:
    assert parse_duration(written_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-6)


@pytest.mark.slow
@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_clear_refusal(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        seconds = 0.0 if "not a duration" in str(error) else -1.0
    assert seconds >= 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (5400, "1h 30m"), (3605, "1h"), (2.34, "2.3s"), (90061, "1d 1h")]
)
def test_how_a_duration_is_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
