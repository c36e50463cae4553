"""
The page: what is true now, what was seen, holds and a stop, in a browser.

A process of its own, off by default (`idlewatch web`, extra `idlewatch[web]`). It reads the state folder and drops
files into `holds/` and `requests/`, as the command line does; when it dies, the daemon notices nothing. Once its port
is exposed the whole internet reaches it, so `security` comes before everything else. Importing this package is light:
notices of the daemon's need `keep_link` and must not load a web server.
"""

from __future__ import annotations

from idlewatch.web.address import served_at
from idlewatch.web.links import keep_link

__all__ = ["keep_link", "served_at"]
