"""A signal whose words come from outside, with known secrets taken out before anybody sees or keeps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from idlewatch.errors import SignalError
from idlewatch.model import Finding, Json, Reading, Signal


class RedactedSignal:
    """
    The same signal; errors, proofs, reasons and notices are without secrets.

    `facts_too`: its facts are the owner's own and may hold anything. Those of our own signals are left as they are:
    they are judged, and somebody's password may be the name of a program.
    """

    def __init__(self, signal: Signal, clean: Callable[[str], str], *, facts_too: bool = False) -> None:
        self.name, self.refines = signal.name, signal.refines
        self._signal, self._clean, self._facts_too = signal, clean, facts_too

    def read(self, now_s: float) -> Reading:
        """As the signal; instead of what would tell a secret it raises a SignalError that does not."""
        try:
            reading = self._signal.read(now_s)
        except Exception as error:
            told = str(error) if isinstance(error, SignalError) else f"{type(error).__name__}: {error}"
            if self._clean(told) == told:
                raise
            raise SignalError(self._clean(told)) from None
        facts = self._all_clean(reading.facts) if self._facts_too else reading.facts
        return replace(reading, error=self._words(reading.error), absent=self._words(reading.absent), facts=facts)

    def judge(self, reading: Reading) -> Finding:
        """As the signal; instead of what would tell a secret it raises a ValueError that does not."""
        try:
            finding = self._signal.judge(reading)
        except Exception as error:
            if self._clean(str(error)) == str(error):
                raise
            raise ValueError(self._clean(str(error))) from None
        return replace(finding, reason=self._clean(finding.reason), notice=self._words(finding.notice))

    def close(self) -> None:
        """As the signal."""
        self._signal.close()

    def _words(self, text: str | None) -> str | None:
        return None if text is None else self._clean(text)

    def _all_clean(self, facts: Mapping[str, Json]) -> dict[str, Json]:
        return {self._clean(name): self._clean_fact(fact) for name, fact in facts.items()}

    def _clean_fact(self, fact: Json) -> Json:
        if isinstance(fact, str):
            return self._clean(fact)
        if isinstance(fact, list):
            return [self._clean_fact(one) for one in fact]
        return self._all_clean(fact) if isinstance(fact, dict) else fact
