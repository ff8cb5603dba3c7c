"""The reasons that the boot scripts (``shared/boot``) give when a machine cannot be a workspace.

A reason becomes the operation's result, an event's, and a metric's label. A machine is whoever is
root in it, and may claim any, so no others are believed: ``READY`` or ``COMPUTE_POLICY_FORBIDS``
are the Hub's own to say.
"""

BOOT_FAILED = "BOOT_FAILED"  # a machine that gives no reason, or one of its own
DISK_MISSING = "DISK_MISSING"  # the home disk is not attached

# All that the scripts have ever sent, those of version 0.1 too: a machine keeps its scripts until
# it boots again.
BOOT_CODES = frozenset({
    DISK_MISSING, "DISK_DAMAGED", "DISK_FOREIGN", "DISK_FULL", "DISK_NOT_CHECKED", "DISK_NOT_FORMATTED",
    "DISK_READ_ONLY", "DISK_UNMOUNTABLE", "DISK_UNREADABLE", "DISK_UNUSABLE", "SECRETS_NOT_SAFE",
    "IMAGE_DENIED", "IMAGE_MISSING", "IMAGE_PULL_FAILED", "IMAGE_WRONG_PLATFORM", "REGISTRY_LOGIN_FAILED",
    "CONTAINER_ENDS", "CONTAINER_NOT_RUNNING", "CONTAINER_OUT_OF_MEMORY", "CONTAINER_REFUSED", "CONTAINER_UNHEALTHY",
    "BOOT_DISK_FULL", "DOCKER_NOT_RUNNING", "METADATA_AWAY", "METADATA_NOT_GUARDED",
})  # fmt: skip


def believed_code(code: str | None) -> str:
    """Return the code of a machine's failure: the one that it gives if the boot scripts have it, otherwise ``BOOT_FAILED``."""
    return code if code in BOOT_CODES else BOOT_FAILED


def is_of_a_machine(code: str) -> bool:
    """Say whether an error's code is what a machine reported of itself."""
    return code == BOOT_FAILED or code in BOOT_CODES
