"""The command ``workspace``: it speaks a Hub's HTTP contract, and imports nothing of the Hub.

Whoever adds a command reads ``commands/__init__.py``.
"""

VERSION = "0.2.0"
# Not by its name from an index: whoever registered that there first would be trusted.
UPGRADE = "upgrade this command: pip install --upgrade ./cli, in a current clone of the Hub"
API = 1  # the number of the contract that this command knows, see ``GET /sign-in``
