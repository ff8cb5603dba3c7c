"""The command ``workspace``: it speaks a Hub's HTTP contract, and imports nothing of the Hub.

Whoever adds a command reads ``commands/__init__.py``.
"""

VERSION = "0.2.0"
API = 1  # the number of the contract that this command knows, see ``GET /sign-in``
