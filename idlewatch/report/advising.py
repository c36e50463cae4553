"""What the advice is computed from: this start's history, an evenly spread part of its readings."""

from __future__ import annotations

from pathlib import Path

from idlewatch.history.sampling import Sample, facts_in
from idlewatch.history.store import spans_of
from idlewatch.report.advice import GPU, SAMPLES, WEEK_S, Advice, advised, look_of


def advice_of(state_dir: Path, now_s: float, usd_per_hour: float | None) -> list[Advice]:
    """Read and say it; takes a second or two of CPU for a week of eight GPUs."""
    sample = Sample(signal=GPU, from_s=now_s - WEEK_S, to_s=now_s, cells=SAMPLES)
    looks = [look_of(at_s, facts) for at_s, facts in facts_in(state_dir, sample)]
    spans = spans_of(state_dir, since_s=now_s - WEEK_S)
    return advised(looks, spans, now_s=now_s, step_s=WEEK_S / SAMPLES, usd_per_hour=usd_per_hour)
