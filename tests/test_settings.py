"""The settings: read, refused, written down."""

from __future__ import annotations

import pytest

from idlewatch.errors import SettingsError
from idlewatch.settings import Loaded, Source, load


def told(*, unknown_names_ok: bool = False, **variables: str) -> Loaded:
    return load([Source(name="environment", variables=variables)], unknown_names_ok=unknown_names_ok)


def test_a_misspelt_name_is_refused_or_where_that_is_asked_for_let_pass_with_a_warning() -> None:
    with pytest.raises(SettingsError, match="did you mean IDLEWATCH_IDLE_AFTER"):
        told(IDLEWATCH_IDLE_AFTR="20m")
    passed = told(IDLEWATCH_IDLE_AFTR="20m", IDLEWATCH_WARN_FOR="7m", unknown_names_ok=True)
    assert passed.settings.warn_for.total_seconds() == 420
    (warning,) = passed.warnings
    assert "IDLEWATCH_IDLE_AFTR: there is no such setting; did you mean IDLEWATCH_IDLE_AFTER?" in warning


def test_a_wrong_value_is_refused_also_where_unknown_names_pass() -> None:
    with pytest.raises(SettingsError) as refused:
        told(IDLEWATCH_IDLE_AFTR="20m", IDLEWATCH_WARN_FOR="soon", unknown_names_ok=True)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["IDLEWATCH_WARN_FOR"]


def test_nothing_wrong_is_no_warning() -> None:
    assert told(IDLEWATCH_WARN_FOR="7m").warnings == ()


def test_an_address_for_notices_that_is_none_is_refused_without_quoting_it() -> None:
    with pytest.raises(SettingsError) as refused:
        load([Source(name="environment", variables={"IDLEWATCH_NOTIFY": "SECRET-thing"})])
    assert "IDLEWATCH_NOTIFY" in str(refused.value.problems)
    assert "SECRET" not in str(refused.value.problems)
