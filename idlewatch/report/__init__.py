"""
What this Pod cost, in which state it spent its time, what stopping saved, and whether Serverless would cost less.

`books` reads what was kept of each start, here and on the volume; `bill` adds it up, `serverless` compares, `advice`
finds waste that is not idleness: all three pure. Nothing here asks the API.
"""

from idlewatch.report.advice import Advice
from idlewatch.report.advising import advice_of
from idlewatch.report.bill import Bill, Boot, Kind, billed
from idlewatch.report.books import boots_of
from idlewatch.report.serverless import CARDS, Card, Comparison, card_named, compared, comparison_of

__all__ = [
    "CARDS",
    "Advice",
    "Bill",
    "Boot",
    "Card",
    "Comparison",
    "Kind",
    "advice_of",
    "billed",
    "boots_of",
    "card_named",
    "compared",
    "comparison_of",
]
