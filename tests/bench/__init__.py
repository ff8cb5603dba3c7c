"""Measures speed and memory, as ratios to a floor of the same run; no test asserts them."""
