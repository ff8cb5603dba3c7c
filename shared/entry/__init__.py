"""The edges: HTTP and events in, use cases called, JSON and problems out."""
