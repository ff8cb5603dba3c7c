"""Speed and memory, as ratios to a floor that is measured in the same run. `nox -s bench` prints them; no test asserts them."""
