"""A Compute Engine for one machine: REST v1, long-running operations, and faults on demand."""
