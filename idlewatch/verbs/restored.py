"""What a restore did, for people: also what it left as it was, and how to have that."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from idlewatch.amounts import amount
from idlewatch.snapshot import RestoreReport
from idlewatch.snapshot.given import shown

NAMED = 10
"""So many of each are named; `--json` has all."""


def restored_lines(report: RestoreReport) -> list[str]:
    """The lines of a restore; paths are whole ones, as `--only` takes them."""
    did = "Would bring back" if report.dry_run else "Brought back"
    what = f"{_many(report.files, 'file')} and {_many(report.folders, 'folder')} ({amount(report.disk_bytes)})"
    return [
        f"{did} {what} from {report.snapshot} into {report.target}; {report.unchanged} were there already.",
        *_paragraph(
            len(report.kept_newer),
            "left as they are, because they are newer than the save; with --overwrite they are replaced:",
            _named(report, report.kept_newer),
        ),
        *_paragraph(
            len(report.replaced),
            "would replace other content:" if report.dry_run else "replaced other content:",
            _named(report, report.replaced),
        ),
        *_paragraph(
            len(report.conflicts),
            "left as they are, because the image has changed them, too; with --overwrite they are replaced:",
            _with_reasons(report, report.conflicts),
        ),
        *_paragraph(
            len(report.in_the_way),
            "NOT brought back, because something stands in the way; move it away and run this again:",
            _with_reasons(report, report.in_the_way),
        ),
        *_paragraph(
            len(report.deleted), "deleted again, as they had been before the save:", _named(report, report.deleted)
        ),
        *_paragraph(len(report.skipped), "left out on purpose:", _with_reasons(report, report.skipped)),
        *_paragraph(len(report.merged), "joined with the lines that are there:", _named(report, report.merged)),
        *_paragraph(
            len(report.attributes),
            "brought back without all of their attributes:",
            _with_reasons(report, report.attributes),
        ),
        *report.notes,
    ]


def missing(report: RestoreReport) -> str:
    """One sentence for a restore that is not whole: what is not back, and the way to have it."""
    parts = [
        (report.in_the_way, "something stands in the way of {}"),
        (report.conflicts, "the image has changed {}, too"),
    ]
    told = " and ".join(text.format(_many(len(paths), "path")) for paths, text in parts if paths)
    ways = [
        (report.in_the_way, "move it away and run this again"),
        (report.conflicts, "`--only PATH --overwrite` takes the saved one"),
    ]
    way = "; ".join(text for paths, text in ways if paths)
    not_back = "not all would come back" if report.dry_run else "not all is back"
    return f"{not_back}: {told}; {way}"


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _named(report: RestoreReport, paths: Iterable[str]) -> list[str]:
    return [shown(str(Path(report.target) / path)) for path in paths]


def _with_reasons(report: RestoreReport, reasons: dict[str, str]) -> list[str]:
    return [f"{name}: {shown(why)}" for name, why in zip(_named(report, reasons), reasons.values(), strict=True)]


def _paragraph(many: int, title: str, names: Iterable[str]) -> list[str]:
    if not many:
        return []
    more = [f"  … and {many - NAMED} more; --json names them all"] if many > NAMED else []
    return [f"{many} {title}", *(f"  {name}" for name in list(names)[:NAMED]), *more]
