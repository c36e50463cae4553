"""
A few lines of ours in a file of somebody else's, between marks: put in, replaced, taken out; the rest stays as it is.

They stand first, behind the `#!` line: the hooks of RunPod's own images end with `exit 0`, and nothing below runs.
"""

from __future__ import annotations

import re

BEGIN, END = "# >>> idlewatch >>>", "# <<< idlewatch <<<"
_BLOCK = re.compile(rf"^{re.escape(BEGIN)}\n.*?^{re.escape(END)}\n", re.MULTILINE | re.DOTALL)
SHEBANG = "#!/bin/bash\n"


def without(text: str) -> str:
    """The file without our lines."""
    return _BLOCK.sub("", text)


def with_block(text: str, lines: str) -> str:
    """The file with `lines` in the place of ours; an empty file becomes a script."""
    rest = without(text) or SHEBANG
    rest = rest if rest.endswith("\n") else f"{rest}\n"
    at = rest.index("\n") + 1 if rest.startswith("#!") else 0
    return f"{rest[:at]}{BEGIN}\n{lines}{END}\n{rest[at:]}"
