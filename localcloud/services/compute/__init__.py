"""A Compute Engine server for one machine: REST v1, the methods the Hub uses, long operations, faults on demand."""
