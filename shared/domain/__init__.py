"""What the Hub decides: pure functions and records, on the standard library alone."""
