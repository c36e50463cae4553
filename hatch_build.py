"""What the build adds: the commit that it is made of, for `idlewatch --version` where there is no checkout."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


class Commit(BuildHookInterface):  # type: ignore[type-arg]  # hatchling is there only while it builds
    """Puts `idlewatch/commit` into a wheel and a source distribution that are made in a checkout."""

    PLUGIN_NAME = "commit"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Where nobody knows the commit there is no such file; an editable install looks at its checkout."""
        sys.path.insert(0, str(ROOT))
        from idlewatch.version import COMMIT_FILE, commit

        found = commit()
        if found and version != "editable" and not (ROOT / "idlewatch" / COMMIT_FILE).exists():
            self._folder = TemporaryDirectory()
            kept = Path(self._folder.name) / COMMIT_FILE
            kept.write_text(f"{found}\n")
            build_data["force_include"][str(kept)] = f"idlewatch/{COMMIT_FILE}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The artifact is written: the file is needed no more."""
        del version, build_data, artifact_path
        if hasattr(self, "_folder"):
            self._folder.cleanup()
