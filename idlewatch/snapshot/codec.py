"""Zstandard, from the standard library (Python 3.14) or its backport, imported only where bytes are packed."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from idlewatch.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Buffer, Iterator
