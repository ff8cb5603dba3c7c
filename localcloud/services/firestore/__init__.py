"""A local stand-in for Firestore, with production's rules, in a process of its own.

    python -m localcloud.services.firestore --port 8080

serves ``google.firestore.v1.Firestore`` over plain gRPC at 127.0.0.1. It is ready when it has
written the line ``ready 127.0.0.1:8080`` to standard output. SIGTERM ends it at once, with exit
code 0. ``__main__.py`` has all options.

``order`` makes bytes of values that sort as Firestore sorts, and ``entries`` keeps them sorted.
``filters`` and ``query`` read queries and carry them out, and ``indexes`` says whether Firestore
would. ``writes``, ``transforms`` and ``repeats`` are what a commit consists of, ``limits`` and
``names`` what it may contain. ``store`` has all databases, ``transactions`` what is read at one
time, and ``expiry`` what is deleted in time. ``service`` answers the calls, and ``server`` serves
them on a port.

Differences from Firestore itself: there are no listeners, no streams of writes, no partitions, no
vector searches, no explanations, no reads at an earlier time, and lists of documents have no order.
Transactions are optimistic. Nobody is asked for a token.
"""
