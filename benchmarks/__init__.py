"""What idlewatch costs, measured beside what people use instead; see README.md here."""
