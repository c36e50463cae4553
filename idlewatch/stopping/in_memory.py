"""What lives in this Pod's memory only, and ends with a stop, as the newest readings tell it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from idlewatch.model import Json, Reading

_NAMED_MAX = 3


def ends_with_the_stop(readings: Iterable[Reading]) -> tuple[str, ...]:
    """Return it in words: `2 notebooks (a.ipynb, b.ipynb)`, `3 terminals`, `2 jobs (train.py, rsync)`."""
    facts = {reading.signal: reading.facts for reading in readings if reading.error is None}
    return (
        *_counted("notebook", open_notebooks(facts.get("jupyter", {})), named=True),
        *_counted("terminal", list(_terminals(facts.get("people", {}))), named=False),
        *_counted("job", list(_jobs(facts.get("jobs", {}))), named=True),
    )


def open_notebooks(facts: Mapping[str, Json]) -> list[str]:
    """The notebooks that had a kernel by a reading of Jupyter; their unsaved edits lie in browsers."""
    return sorted(
        {
            str(kernel["path"])
            for server in _objects(facts.get("servers"))
            for kernel in _objects(server.get("kernels"))
            if kernel.get("path")
        }
    )


def _terminals(facts: Mapping[str, Json]) -> Iterator[str]:
    for terminal in _objects(facts.get("terminals")):
        if terminal.get("kind") != "entrypoint":
            yield str(terminal.get("name"))


def _jobs(facts: Mapping[str, Json]) -> Iterator[str]:
    for tree in _objects(facts.get("trees")):
        yield str(tree.get("name"))


def _counted(what: str, names: list[str], *, named: bool) -> Iterator[str]:
    if not names:
        return
    more = [f"{len(names) - _NAMED_MAX} more"] if len(names) > _NAMED_MAX else []
    listed = f" ({', '.join([*names[:_NAMED_MAX], *more])})" if named else ""
    yield f"{len(names)} {what}{'' if len(names) == 1 else 's'}{listed}"


def _objects(value: Json) -> list[dict[str, Json]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
