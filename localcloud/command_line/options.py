"""Options that several programs of the local cloud have."""

from __future__ import annotations

import argparse

from localcloud.settings import EMULATORS, LocalSettings


def add_emulators_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--emulators``, see ``LocalSettings``."""
    parser.add_argument(
        "--emulators",
        choices=EMULATORS,
        default=LocalSettings.emulators,
        help="Firestore and Pub/Sub: the local cloud's own, or Google's, which need Java",
    )
