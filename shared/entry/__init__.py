"""The entry points: HTTP requests and events call use cases, and become JSON or problems."""
