"""
GPU samples out of a Prometheus, three ways:

- what `/api/v1/query_range` or `/api/v1/query` with a range answers: JSON, one series after the other;
- `promtool tsdb dump-openmetrics`: `NAME{labels} VALUE SECONDS` a line;
- `promtool tsdb dump`: `{__name__="NAME", labels} VALUE MILLISECONDS` a line.

Which metric says what stands in `_METRICS`: NVIDIA's dcgm-exporter, and nvidia_gpu_exporter with its ratios and bytes.
A GPU is told apart by `UUID`, `uuid`, `gpu` or `device`, together with the host that it is in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import nan
from pathlib import Path
from typing import Any

from idlewatch.replay.gpu_log import Packer, Samples, period, tick_for
from idlewatch.replay.lines import BadFile
from idlewatch.replay.plausible import refuse_percent
from idlewatch.replay.text_file import TextFile

_METRICS: Mapping[str, tuple[str, float]] = {
    "DCGM_FI_DEV_GPU_UTIL": ("percent", 1.0),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("percent", 100.0),
    "nvidia_smi_utilization_gpu_ratio": ("percent", 100.0),
    "DCGM_FI_DEV_POWER_USAGE": ("watts", 1.0),
    "nvidia_smi_power_draw_watts": ("watts", 1.0),
    "DCGM_FI_DEV_FB_USED": ("mib", 1.0),
    "nvidia_smi_memory_used_bytes": ("mib", 1 / 1024 / 1024),
}
"""Metric -> what it says of a GPU, and what its value is multiplied with."""
_GPU_LABELS = ("UUID", "uuid", "gpu", "device")
_HOST_LABELS = ("Hostname", "hostname", "instance")
_LINE = re.compile(r"(\w*)\{(.*)\}\s+(\S+)\s+(\S+)\s*$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MILLISECONDS_FROM = 1e11

_Row = tuple[float, float, float]
"""Utilization, watts and MiB."""
_Series = dict[str, dict[float, _Row]]
"""GPU -> instant -> what was told of it then."""
_PLACES = {"percent": 0, "watts": 1, "mib": 2}


def is_told(beginning: str) -> bool:
    """Whether a file that begins so is one of these."""
    text = beginning.lstrip()
    if text.startswith("{") and ('"resultType"' in text or '"errorType"' in text):
        return True
    return any(_LINE.match(line) for line in text.splitlines() if not line.startswith("#"))


def read_prometheus(path: Path) -> Samples:
    """Read an export. Raises BadFile naming file and line."""
    series: _Series = {}
    with TextFile(path) as file:
        try:
            for labels, at_s, value in _told(file):
                _keep(series, labels, at_s, value)
        except json.JSONDecodeError as error:
            raise file.wrong(f"its JSON is cut off or torn: {error}", error.lineno) from None
        except _Refused as error:
            raise file.wrong(str(error)) from None
        except ValueError as error:
            raise file.wrong(f"no value or no time of a sample: {error}") from None
        except (KeyError, TypeError, AttributeError):
            raise file.wrong("no series with their values, as /api/v1/query_range answers them") from None
    if not series:
        raise BadFile([f"{path}: it has no series named {', '.join(_METRICS)}; a query with a function has no name"])
    return _samples(path, series)


class _Refused(Exception):
    """An answer that says why there is none, or one that can't be."""


def _told(file: TextFile) -> Iterator[tuple[Mapping[str, str], float, float]]:
    lines = iter(file)
    first = next(lines, "")
    if first.lstrip().startswith("{") and "__name__=" not in first:
        yield from _of_json(json.loads(first + "".join(lines)))
    else:
        yield from _of_lines([first], lines)


def _of_json(answer: Any) -> Iterator[tuple[Mapping[str, str], float, float]]:
    if answer.get("status") == "error":
        raise _Refused(f"Prometheus refused the query: {answer.get('error')}")
    for one in answer.get("data", answer)["result"]:
        for at_s, value in one.get("values", [one.get("value")]):
            yield one["metric"], float(at_s), float(value)


def _of_lines(*several: Iterable[str]) -> Iterator[tuple[Mapping[str, str], float, float]]:
    for lines in several:
        for line in lines:
            found = _LINE.match(line)
            if found is None:
                continue
            name, labels, value, at = found.groups()
            at_s = float(at)
            told = {**dict(_LABEL.findall(labels)), **({"__name__": name} if name else {})}
            yield told, at_s / 1000 if at_s > _MILLISECONDS_FROM else at_s, float(value)


def _keep(series: _Series, labels: Mapping[str, str], at_s: float, value: float) -> None:
    metric = _METRICS.get(labels.get("__name__", ""))
    if metric is None:
        return
    what, times = metric
    if what == "percent":
        _refuse(value * times)
    gpu = ":".join(_first(labels, names) for names in (_HOST_LABELS, _GPU_LABELS))
    row = list(series.setdefault(gpu, {}).get(at_s, (nan, nan, nan)))
    row[_PLACES[what]] = value * times
    series[gpu][at_s] = (row[0], row[1], row[2])


def _refuse(percent: float) -> None:
    try:
        refuse_percent(percent)
    except ValueError as error:
        raise _Refused(str(error)) from None


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    return next((labels[name] for name in names if name in labels), "")


def _samples(path: Path, series: _Series) -> Samples:
    instants = sorted({at_s for rows in series.values() for at_s in rows})
    period_s = period(instants)
    packer = Packer(tick_for(period_s, instants[-1] - instants[0]))
    for gpu, rows in series.items():
        for at_s in sorted(rows):
            packer.take(gpu, at_s, *rows[at_s])
    packer.done()
    return Samples(
        path=path,
        kind="export of Prometheus",
        packer=packer,
        period_s=period_s,
        zero_at=datetime.fromtimestamp(0, UTC),
    )
