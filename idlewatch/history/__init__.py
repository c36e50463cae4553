"""What was seen and decided: kept, shown in status.json, and carried past the Pod."""
