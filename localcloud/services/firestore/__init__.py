"""A local stand-in for Firestore, with production's rules, in a process of its own.

    python -m localcloud.services.firestore --port 8080

serves ``google.firestore.v1.Firestore`` over plain gRPC at 127.0.0.1. It is ready when it has
written the line ``ready 127.0.0.1:8080`` to standard output, or when ``client.is_ready`` says so.
SIGTERM ends it at once, with exit code 0. ``__main__.py`` has all options.
"""
