"""
A generator of Pods' days: what each kind is made of, and where its figures come from.

Every life begins when its person starts the Pod and ends 24 h later, when they need it again. A seed and a kind make
one life, always the same. *Published* figures are drawn from `published.py`; the others are assumptions, said here.
After a first run, in which the product stopped nobody in use, what no signal can see was added: silent pauses and jobs
that wait for an answer from elsewhere.

    notebook day     In the browser over the provider's proxy, 1 GPU. Two to four blocks of work of 60 to 150 min. In a
                     block: a run of the GPU (minutes as published of the developer's session, at a utilization as
                     published of Philly), then a pause (as published), torn into editing (some cells a minute) and
                     thinking (median 2.5 min, nothing is measured); one pause in six is silent from end to end,
                     up to 45 min. Needed. Between blocks lunch, meetings and errands
                     of 25 to 120 min; from the evening on nobody. Not needed.
    editor day       The same over SSH, in an editor without a terminal for half of them, else in a terminal. The
                     connection stays: a third of the machines falls asleep after 20 min without input.
    training         20 to 50 min of setting up in a terminal, data loaded for 10 to 60 min (1 to 6 cores, no GPU),
                     then 4 to 14 h of epochs: 20 to 90 min of GPU at a utilization as published of Seren (1, 2 or 8
                     GPUs; every third with offload to the host: a burst each 3 s; every fourth uneven: one GPU of
                     several hardly works), 2 to 12 min of evaluation on 1 to 3 cores, 0 to 3 min of a checkpoint. All
                     needed, though nobody is there. Then nothing until morning: not needed.
    forgotten        One block of work in the afternoon, then left with its model in memory and its connection open
                     until the next day.
    inference        A server and its callers: a request each 0.2 to 3 min for 10 to 90 min (needed), then a lull of
                     median 20 min and up to hours (not needed); from the 14th hour on nobody asks.
    download         10 min of setting up, then a download of 1 to 7 h at 2 to 80 MB/s with stalls of 1 to 4 min, then
                     unpacking for 10 to 50 min (0.3 to 1 core). Needed; the rest is not.
    hung             A training that stops to make progress after 1 to 5 h, unnoticed: a third deadlocks (100 %
                     utilization at little power, one core spins), a third crashes, a third waits for a dead peer
                     without using anything. Not needed from then on.
    cpu work         Tokenizing, compiling or a coding agent alone (a command each minute or two) for 2 to 6 h after a
                     block of setting up, with pauses of half a minute to 6 min; one in twelve waits for an answer from
                     elsewhere for 10 to 60 min, and nothing shows. Needed, without GPU. The rest is not.

One kind more is not in the table, because limits of judges only matter near them, and other use is far above:

    faint            After a block of work 6 h of faint use and then as faint a noise, an eighth of the lives each: GPU
                     (needed: a peak of 4 to 20 % each 5 to 60 s; noise: 0.5 to 4 % each 30 s to 5 min); the CPU
                     (needed, a third each: an agent, 1 to 10 s of a core each 20 to 120 s; builds and tests, 30 to
                     180 s of 1 to 8 cores each 5 to 20 min; a loader, 2 to 5 s of 0.3 to 1 core each 10 to 40 s. Noise,
                     a third each: cron, 1 to 20 s of 1 to 16 cores each 5 to 30 min; a language server, 1 to 6 % of a
                     core and 3 to 10 s of collection each 2 to 10 min; polls, 0.05 to 0.5 s each 5 to 30 s); the
                     network, of a program whose connections can't be seen and of one whose can (needed: 10 to
                     300 KB/s; noise: 0.3 to 30 KB/s); the Pod's memory
                     and the GPU's (needed: loading 60 to 1600 MiB in 10 min; noise: 6 to 160 MiB); energy (each five
                     minutes or so half of a look is described by no sample; needed: in that half it drew 3 to 60 W
                     more; noise: 0.5 to 10 W); and a GPU that can't be read for 3 to 60 % of the time, some minutes in
                     a row (needed: a burst of work each 7 min or so, which is seen only where it can be read). Evenly
                     over ratios.

Every fourth life of any kind has a hum: 1 to 4 % of a core taken by something that nobody needs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.judgement import published
from benchmarks.judgement.doing import ALWAYS, DAY_S, HOUR_S, Connection, Doing, PodLife

REST = Doing()
LOADED = Doing(watts=90.0, mib=18_000)
THINKS = Doing(watts=90.0, mib=9_000)
_THINKING = published.Spread(0.916, 0.8)
"""Minutes: a median of 2.5."""
_LULL = published.Spread(3.0, 1.1)
_SLEEPS_AFTER_S = 20 * 60.0


def life(kind: str, seed: int) -> PodLife:
    """The life that this kind and seed make."""
    source = random.Random(f"{kind} {seed}")
    made = PodLife(kind=kind, seed=seed, begins_hour=source.uniform(8.0, 10.5))
    if source.random() < 0.25:
        made.hum_cores = source.uniform(0.01, 0.04)
    (_faint if kind == FAINT else KINDS[kind])(made, source)
    made.cut(DAY_S)
    made.until(DAY_S, LOADED if made.server else REST)
    return made


def _notebook_day(made: PodLife, source: random.Random) -> None:
    made.notebook = True
    _working_day(made, source, cells=True)


def _editor_day(made: PodLife, source: random.Random) -> None:
    made.editor = source.random() < 0.5
    _working_day(made, source, cells=False)
    _connect(made, source, made.ends_s)


def _working_day(made: PodLife, source: random.Random, *, cells: bool) -> None:
    for block in range(source.randint(2, 4)):
        if block:
            made.add(source.uniform(25, 120), LOADED, needed=False)
        _block(made, source, source.uniform(60, 150), cells=cells)
    made.until(DAY_S, LOADED)


def _block(made: PodLife, source: random.Random, minutes: float, *, cells: bool) -> None:
    """A stretch of work: a run, a pause with editing and thinking, and so on."""
    ends_s = made.ends_s + minutes * 60.0
    while made.ends_s < ends_s:
        made.add(published.runs().draw(source, 0.5, 30), _run(source, cells=cells))
        pause_s = made.ends_s + 60 * published.pauses().draw(source, 1, 45)
        if source.random() < 1 / 6:
            made.until(pause_s, THINKS, needed=True)
        while made.ends_s < pause_s:
            made.add(source.uniform(0.5, 4), _edits(source, cells=cells))
            made.add(_THINKING.draw(source, 0.2, 20), THINKS)
    made.add(source.uniform(0.5, 2), _edits(source, cells=cells))


def _run(source: random.Random, *, cells: bool) -> Doing:
    percent = source.choice(published.utilization("util_gpu_philly"))
    return Doing(
        bursts_per_min=ALWAYS if percent > 40 else source.uniform(2, 10),
        peak_pct=min(100.0, percent * 1.3),
        share=percent / 100,
        watts=_watts(percent),
        mib=18_000,
        cpu_cores=source.uniform(0.3, 1.5),
        job=None if cells else "python3",
        busy_kernel=cells,
    )


def _edits(source: random.Random, *, cells: bool) -> Doing:
    speed = source.uniform(20, 120)
    if cells:  # what is typed in a browser is sent when it is run
        return Doing(watts=90.0, mib=9_000, cells_per_min=source.uniform(0.3, 1.5), cpu_cores=0.03)
    return Doing(watts=90.0, mib=9_000, keys_per_min=speed, cpu_cores=0.03)


def _connect(made: PodLife, source: random.Random, to_s: float, from_s: float = 0.0) -> None:
    asleep = source.random() < 1 / 3
    last_s = max((one.to_s for one in made.stretches if one.doing.keys_per_min and one.to_s <= to_s), default=from_s)
    made.connections.append(Connection(from_s, to_s, last_s + _SLEEPS_AFTER_S if asleep else to_s))


def _training(made: PodLife, source: random.Random) -> None:
    _set_up(made, source)
    _load_data(made, source)
    _epochs(made, source, source.uniform(4, 14) * HOUR_S)


def _set_up(made: PodLife, source: random.Random) -> None:
    _block(made, source, source.uniform(20, 50), cells=False)
    _connect(made, source, DAY_S if source.random() < 0.5 else made.ends_s + source.uniform(0, 40) * 60)


def _load_data(made: PodLife, source: random.Random) -> None:
    rate = source.uniform(1e6, 5e7)
    loads = Doing(cpu_cores=source.uniform(1, 6), job="python3", disk=rate, mib=4.0)
    made.add(source.uniform(10, 60), loads)


def _epochs(made: PodLife, source: random.Random, for_s: float) -> Doing:
    """The training, and what it does to the GPUs."""
    made.gpus = source.choice((1, 1, 2, 8))
    percent = source.choice(published.utilization("util_gpu_seren"))
    offload, uneven = source.random() < 1 / 3, made.gpus > 1 and source.random() < 0.25
    trains = Doing(
        bursts_per_min=ALWAYS,
        peak_pct=100.0 if offload else min(100.0, percent * 1.1),
        share=0.17 if offload else percent / 100,
        gpus=made.gpus - 1 if uneven else None,
        watts=_watts(17 if offload else percent),
        mib=60_000,
        cpu_cores=source.uniform(1, 3),
        job="python3",
    )
    ends_s = made.ends_s + for_s
    while made.ends_s < ends_s:
        made.add(source.uniform(20, 90), trains)
        evaluates = Doing(cpu_cores=source.uniform(1, 3), job="python3", watts=100.0, mib=60_000)
        made.add(source.uniform(2, 12), evaluates)
        made.add(source.uniform(0.1, 3), Doing(cpu_cores=0.4, job="python3", disk=2e8, watts=100.0, mib=60_000))
    return trains


def _watts(percent: float) -> float:
    """Power at a utilization: the quantile of Seren's that is as high among those at work."""
    return published.watts_at(0.5 + percent / 220)


def _forgotten(made: PodLife, source: random.Random) -> None:
    made.begins_hour = source.uniform(13.0, 16.0)
    made.notebook = source.random() < 0.5
    _block(made, source, source.uniform(60, 180), cells=made.notebook)
    made.until(DAY_S, LOADED)
    if not made.notebook:
        made.editor = source.random() < 0.5
        _connect(made, source, DAY_S)


def _inference(made: PodLife, source: random.Random) -> None:
    made.server = True
    quiet_from_s = source.uniform(11, 16) * HOUR_S
    made.add(source.uniform(3, 8), Doing(cpu_cores=1.0, disk=3e8, mib=30_000))
    while made.ends_s < quiet_from_s:
        asked = 1 / source.uniform(0.2, 3)
        answers = Doing(
            bursts_per_min=asked,
            peak_pct=source.uniform(40, 100),
            share=source.uniform(0.02, 0.3),
            watts=140.0,
            mib=70_000,
            asked_per_min=asked,
            cpu_cores=0.1,
            network=2_000.0,
        )
        made.add(source.uniform(10, 90), answers)
        made.add(_LULL.draw(source, 3, 360), LOADED, needed=False)


def _download(made: PodLife, source: random.Random) -> None:
    _block(made, source, 10, cells=False)
    _connect(made, source, made.ends_s + source.uniform(1, 30) * 60)
    rate, ends_s = source.uniform(2e6, 8e7), made.ends_s + source.uniform(1, 7) * HOUR_S
    moves = Doing(moved=rate, network=rate, disk=rate, cpu_cores=0.04)
    while made.ends_s < ends_s:
        made.add(source.uniform(5, 60), moves)
        made.add(source.uniform(1, 4), REST)
    made.add(source.uniform(10, 50), Doing(cpu_cores=source.uniform(0.3, 1), job="tar", disk=3e7))


def _hung(made: PodLife, source: random.Random) -> None:
    _set_up(made, source)
    trains = _epochs(made, source, source.uniform(1, 5) * HOUR_S)
    spins = Doing(bursts_per_min=ALWAYS, peak_pct=100, share=1, watts=120, mib=60_000, cpu_cores=1.0, job="python3")
    waits = Doing(watts=100.0, mib=trains.mib)
    made.until(DAY_S, (spins, REST, waits)[made.seed % 3])


def _cpu_work(made: PodLife, source: random.Random) -> None:
    _set_up(made, source)
    works = (
        Doing(cpu_cores=source.uniform(1, 8), job="python3"),
        Doing(cpu_cores=source.uniform(0.3, 4), job="make"),
        Doing(commands_per_min=source.uniform(0.5, 1), cpu_cores=0.05, network=1500),
    )[made.seed % 3]
    ends_s = made.ends_s + source.uniform(2, 6) * HOUR_S
    while made.ends_s < ends_s:
        made.add(source.uniform(10, 60), works)
        waits = source.random() < 1 / 12
        made.add(source.uniform(10, 60) if waits else source.uniform(0.5, 6), REST)


def _faint(made: PodLife, source: random.Random) -> None:
    _block(made, source, 20, cells=False)
    faint = tuple(FAINT_KINDS.values())[made.seed % len(FAINT_KINDS)]
    faint(made, source, made.ends_s + 6 * HOUR_S, needed=True)
    faint(made, source, DAY_S, needed=False)


def _faint_gpu(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    peak, each_s = (
        (_even(source, 4, 20), _even(source, 5, 60)) if needed else (_even(source, 0.5, 4), _even(source, 30, 300))
    )
    made.until(to_s, Doing(bursts_per_min=60 / each_s, peak_pct=peak, share=peak / 300, mib=9_000), needed=needed)


def _faint_cpu(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    bursts = source.choice(_CPU_WORK if needed else _CPU_NOISE)(source)
    while made.ends_s < to_s:
        lasts_s = bursts.lasts_s * source.uniform(0.7, 1.3)
        apart_s = bursts.each_s if bursts.regular else source.expovariate(1 / bursts.each_s)
        made.add(lasts_s / 60, Doing(cpu_cores=bursts.cores), needed=needed)
        made.add(max(1.0, apart_s - lasts_s) / 60, Doing(cpu_cores=bursts.hum_cores), needed=needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bursts:
    """CPU that comes and goes."""

    cores: float = 1.0
    lasts_s: float
    each_s: float
    """From one to the next, in the mean."""
    regular: bool = True
    hum_cores: float = 0.01
    """In between."""


def _agent(source: random.Random) -> _Bursts:
    return _Bursts(lasts_s=_even(source, 1, 10), each_s=_even(source, 20, 120), regular=False)


def _builds(source: random.Random) -> _Bursts:
    lasts_s, each_s = _even(source, 30, 180), _even(source, 300, 1200)
    return _Bursts(cores=_even(source, 1, 8), lasts_s=lasts_s, each_s=each_s, regular=False)


def _loader(source: random.Random) -> _Bursts:
    return _Bursts(cores=source.uniform(0.3, 1), lasts_s=_even(source, 2, 5), each_s=_even(source, 10, 40))


def _cron(source: random.Random) -> _Bursts:
    each_s = source.choice((300.0, 600.0, 900.0, 1800.0))
    return _Bursts(cores=source.choice((1.0, 2.0, 4.0, 8.0, 16.0)), lasts_s=_even(source, 1, 20), each_s=each_s)


def _collector(source: random.Random) -> _Bursts:
    lasts_s, each_s = _even(source, 3, 10), _even(source, 120, 600)
    return _Bursts(lasts_s=lasts_s, each_s=each_s, regular=False, hum_cores=source.uniform(0.01, 0.06))


def _polls(source: random.Random) -> _Bursts:
    return _Bursts(lasts_s=_even(source, 0.05, 0.5), each_s=_even(source, 5, 30))


_CPU_WORK = (_agent, _builds, _loader)
_CPU_NOISE = (_cron, _collector, _polls)


def _faint_network(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    made.until(to_s, Doing(network=_traffic(source, needed=needed)), needed=needed)


def _faint_connection(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    rate = _traffic(source, needed=needed)
    made.until(to_s, Doing(network=rate, talks=rate), needed=needed)


def _traffic(source: random.Random, *, needed: bool) -> float:
    """Bytes a second."""
    return _even(source, 10e3, 300e3) if needed else _even(source, 300, 30e3)


def _even(source: random.Random, least: float, most: float) -> float:
    """Evenly over ratios."""
    return least * math.exp(math.log(most / least) * source.random())


def _faint_memory(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    made.until(to_s, Doing(mib_per_min=_growth(source, needed=needed)), needed=needed)


def _faint_gpu_memory(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    made.until(to_s, Doing(mib=600.0, gpu_mib_per_min=_growth(source, needed=needed)), needed=needed)


def _growth(source: random.Random, *, needed: bool) -> float:
    """MiB a minute."""
    return (_even(source, 60, 1600) if needed else _even(source, 6, 160)) / 10


def _faint_energy(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    watts = _even(source, 3, 60) if needed else _even(source, 0.5, 10)
    made.until(to_s, Doing(late_per_min=0.2, late_watts=watts), needed=needed)


def _unread(made: PodLife, source: random.Random, to_s: float, *, needed: bool) -> None:
    share = _even(source, 0.03, 0.6)
    works = Doing(bursts_per_min=0.15, peak_pct=60, share=0.3, watts=140.0, unread=share)
    made.until(to_s, works if needed else Doing(unread=share), needed=needed)


FAINT = "faint"
FAINT_KINDS: Mapping[str, Callable[..., None]] = {
    "GPU": _faint_gpu,
    "CPU": _faint_cpu,
    "network": _faint_network,
    "memory": _faint_memory,
    "GPU memory": _faint_gpu_memory,
    "energy": _faint_energy,
    "unread GPU": _unread,
    "connection": _faint_connection,
}
KINDS: Mapping[str, Callable[[PodLife, random.Random], None]] = {
    "notebook day": _notebook_day,
    "editor day": _editor_day,
    "training": _training,
    "forgotten": _forgotten,
    "inference": _inference,
    "download": _download,
    "hung": _hung,
    "cpu work": _cpu_work,
}
