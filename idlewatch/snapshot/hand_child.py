"""
A child process of a restore: writes the small files that it is sent (`hands.py`), until its parent says no more.

`python -m idlewatch.snapshot.hand_child PARENT TARGET TEMPORARY`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from idlewatch.children.trees import end_with_parent
from idlewatch.errors import SnapshotError
from idlewatch.snapshot.hands import OwnHand, of_values, received, send


def main(parent: str, path: str, temporary: str) -> int:
    """Answer each message with proofs, troubles and an error, which ends it."""
    end_with_parent()
    if os.getppid() != int(parent):
        return 1
    hand = OwnHand(Path(path), temporary)
    while (message := received(sys.stdin.buffer)) is not None:
        files = [of_values(values) for values in message]
        try:
            troubles = hand.write(files)
        except SnapshotError as error:
            send(sys.stdout.buffer, (None, None, None, str(error)))
            return 1
        proofs = [new.written.proof for new in files]
        send(sys.stdout.buffer, (proofs, troubles.in_the_way, troubles.attributes, None))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
