"""Telling people: terminals, tmux, webhooks and what Apprise knows; what they are told, and how often."""

from idlewatch.notify.notice import Kind, Notice
from idlewatch.notify.terminals import Delivery, Terminals, notice_bytes
from idlewatch.notify.words import COLUMNS, warning_text

__all__ = ["COLUMNS", "Delivery", "Kind", "Notice", "Terminals", "notice_bytes", "warning_text"]
