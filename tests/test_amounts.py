"""Bytes in words."""

from __future__ import annotations

import pytest

from idlewatch.amounts import amount


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 bytes"),
        (0.7, "1 byte"),
        (310, "310 bytes"),
        (999.4, "999 bytes"),
        (999.6, "1.0 KB"),
        (1240, "1.2 KB"),
        (9940, "9.9 KB"),
        (9960, "10 KB"),
        (12_345, "12 KB"),
        (999_949, "1000 KB"),
        (999_951, "1.0 MB"),
        (3.4e9, "3.4 GB"),
        (2e15, "2000.0 TB"),
    ],
)
def test_a_small_amount_is_never_told_as_nothing(number: float, words: str) -> None:
    assert amount(number) == words
