"""What happens between the warning and the stop, and the note that a stop leaves."""
