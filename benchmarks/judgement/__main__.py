"""
`python -m benchmarks.judgement [--seeds 24] [--first 0] [--sensitivity] [--write FOLDER]`: see docs/judgement.md.

The document shows the tables of 24 seeds and the curves of 8.

Prints the table of rules, the table by kind of life, and what the learned wait costs on lists of gaps; with `--write`
also the picture that the document shows. With `--sensitivity` what each default costs, were it another.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from benchmarks.judgement import band, drawn, learned, sensitive, table
from idlewatch import logs


def main() -> None:
    """Measure and print."""
    options = _options()
    logs.set_up(least=logging.CRITICAL)
    began_s = time.process_time()
    seeds = range(options.first, options.first + options.seeds)
    if options.sensitivity:
        told = sensitive.measured(seeds)
        print("\n".join([*sensitive.lines(told), *band.lines()]))
        _write(options.write, "sensitivity.svg", drawn.curves(told))
    else:
        found = table.measured(seeds)
        print("\n".join([*table.lines(found), "", *table.kind_lines(found), "", *learned.lines(options.first)]))
        _write(options.write, "judgement.svg", drawn.scatter(found))
    print(f"\n{time.process_time() - began_s:.0f} s of CPU time")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="idlewatch and the field's rules on made-up lives of Pods")
    parser.add_argument("--seeds", type=int, default=24, help="lives of each kind (default: 24)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--sensitivity", action="store_true", help="what each default costs, were it another")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="where the picture goes")
    return parser.parse_args()


def _write(folder: Path | None, name: str, text: str) -> None:
    if folder is not None:
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
