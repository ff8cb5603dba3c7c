"""The Hub's configuration: each setting is declared once, and all are read and checked together.

``declarations`` lists every setting. ``kinds`` turns a setting's text into its value,
``environment`` reads them all, ``rules`` checks what no setting can say alone, and ``settings`` has
the frozen result. ``nox -s docs`` writes the table of settings and the file that Terraform reads.
"""

from shared.config.declarations import EMULATORS, GOOGLE_ISSUERS, GOOGLE_KEYS_URL, SETTINGS
from shared.config.environment import ConfigurationError, configure_libraries, read_settings
from shared.config.settings import (
    Connect,
    ConnectKind,
    Edge,
    Emulators,
    Identity,
    IdentitySource,
    MachineSettings,
    Prices,
    Settings,
    SignIn,
)

__all__ = [
    "EMULATORS",
    "GOOGLE_ISSUERS",
    "GOOGLE_KEYS_URL",
    "SETTINGS",
    "ConfigurationError",
    "Connect",
    "ConnectKind",
    "Edge",
    "Emulators",
    "Identity",
    "IdentitySource",
    "MachineSettings",
    "Prices",
    "Settings",
    "SignIn",
    "configure_libraries",
    "read_settings",
]
