"""
What other settings would have done to this Pod: its own verdicts under the real policy, with a setting changed.

    lives.py      the starts that were kept, as lives that go on after a stop
    course.py     one life under the policy of some settings: where it would have been stopped
    judged.py     verdicts given anew, by real judges with other settings, from the readings that were kept
    tried.py      which settings are tried, and what each would have come to
    proposed.py   which of them are worth a word, and what must be said with it

Run only where somebody asks, outside the daemon, and no longer than a span of CPU time that it is given.
"""

from idlewatch.shadow.lives import Life, lives_of
from idlewatch.shadow.proposed import Proposal, proposals
from idlewatch.shadow.tried import ENOUGH_DAYS, Shadow, Tried, shadow_of

__all__ = ["ENOUGH_DAYS", "Life", "Proposal", "Shadow", "Tried", "lives_of", "proposals", "shadow_of"]
