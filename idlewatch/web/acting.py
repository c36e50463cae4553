"""
What the page's buttons do: files in `holds/` and `requests/`, the same that the command line drops.

The daemon reads them at its next tick; nothing here waits for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from idlewatch import hold as placing
from idlewatch.durations import format_duration
from idlewatch.errors import Refused
from idlewatch.files import write_atomically
from idlewatch.history.status import mapping
from idlewatch.model import Cause, Clock, Json, Phase
from idlewatch.requests import holds as reading
from idlewatch.requests.save_requests import ask_for_save
from idlewatch.requests.stop_requests import request_file
from idlewatch.settings import Mode
from idlewatch.state_folder import daemon_watches, said_by_daemon

WHO = "the page"
_HANGS = "the daemon has not looked at this Pod lately: it hangs or is only starting"
_WARN_FOR_S = (30.0, 300.0)
"""What the page offers between a request to stop and the save."""


class Buttons:
    """Each method is one button; returns the sentence that says what came of it. Raises Refused where nothing did."""

    def __init__(self, state_dir: Path, clock: Clock, hold_max_s: float) -> None:
        self._state_dir, self._clock, self._hold_max_s = state_dir, clock, hold_max_s

    def hold(self, for_s: float, reason: str = "", who: str = WHO) -> str:
        """Keep the Pod up for `for_s` seconds."""
        span_s = min(for_s, self._hold_max_s)
        try:
            placing.place(reason, for_s=span_s, who=who, state_dir=self._state_dir)
        except OSError as error:
            raise Refused(f"no hold could be placed: {error.strerror}") from error
        except ValueError as error:
            raise Refused(str(error)) from error
        return f"Held for {format_duration(span_s)}.{self._in_vain()}"

    def release(self, hold_id: str) -> str:
        """End one hold."""
        active = reading.read_holds(self._state_dir, self._clock.now_s(), hold_max_s=self._hold_max_s).active
        if hold_id not in [hold.id for hold in active]:
            raise Refused("that hold is over already")
        for error in reading.remove(self._state_dir, [hold_id]).values():
            raise Refused(f"it can't be released: {error.strerror}") from error
        return "Released."

    def stop(self, warn_for_s: float) -> str:
        """Ask the daemon to save and stop the Pod."""
        if warn_for_s not in _WARN_FOR_S:
            raise Refused("people are warned for 30 s or 5 m")
        said = self._watching()
        if said is None:
            raise Refused(f"{self._nobody()}; nobody would carry out a stop")
        request: Json = {
            "who": WHO,
            "warn_for_s": warn_for_s,
            "boot_key": said.get("boot_key"),
            "asked_s": self._clock.now_s(),
        }
        path = request_file(self._state_dir)
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, json.dumps(request))
        except OSError as error:
            raise Refused(f"a stop can't be asked for: {error.strerror}") from error
        if said.get("mode") == Mode.OBSERVE:
            return "Asked; the daemon only observes, so it notes that and does nothing."
        return f"Asked: people are warned for {format_duration(warn_for_s)}, then the Pod is saved and stopped."

    def cancel_stop(self) -> str:
        """Take the request to stop back."""
        try:
            request_file(self._state_dir).unlink()
        except FileNotFoundError:
            raise Refused("there is no request to take back") from None
        except OSError as error:
            raise Refused(f"the request can't be taken back: {error.strerror}") from error
        said = self._watching()
        late = said is not None and said.get("phase") == Phase.STOPPING
        return "The request is taken back." + (" RunPod has been asked already: it may come too late." if late else "")

    def save(self) -> str:
        """Ask the daemon to save what a stop would wipe, now."""
        said = self._watching()
        if said is None:
            raise Refused(f"{self._nobody()}; `idlewatch save` in a terminal saves without it")
        if said.get("mode") == Mode.OBSERVE:
            raise Refused("the daemon only observes; `idlewatch save` in a terminal saves")
        if said.get("phase") != Phase.WATCHING:
            raise Refused("a stop is being prepared, which saves for itself")
        if mapping(said.get("save")).get("state") == "running":
            raise Refused("a save is under way already")
        try:
            ask_for_save(self._state_dir, WHO, said.get("boot_key"), self._clock.now_s())
        except OSError as error:
            raise Refused(f"a save can't be asked for: {error.strerror}") from error
        return "Asked: the daemon saves what a stop would wipe."

    def _watching(self) -> dict[str, Json] | None:
        return said_by_daemon(self._state_dir, self._clock.now_s())

    def _nobody(self) -> str:
        """Why nobody would carry out what is asked for."""
        return _HANGS if daemon_watches(self._state_dir) else "no daemon is running here"

    def _in_vain(self) -> str:
        """What must be said with a hold that does not keep the Pod up now."""
        said = self._watching()
        if said is None and daemon_watches(self._state_dir):
            return f" But {_HANGS}."
        if said is None:
            return " But no daemon watches here now; it counts for one that is started before it ends."
        if said.get("mode") == Mode.OBSERVE or said.get("phase") == Phase.WATCHING:
            return ""
        if said.get("cause") in (Cause.REQUEST, Cause.CEILING):
            return " But this Pod is being stopped, and a hold does not change that."
        return (
            " RunPod has been asked to stop already: it may come too late."
            if said.get("phase") == Phase.STOPPING
            else ""
        )
