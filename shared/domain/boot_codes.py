"""The reasons that the boot scripts (``shared/boot``) give when a machine cannot be a workspace.

A reason becomes the result of the operation and of an event, and the label of a metric. Whoever is
root in a machine can send any reason, so only these are believed. Only the Hub itself says
``READY`` or ``COMPUTE_POLICY_FORBIDS``.
"""

BOOT_FAILED = "BOOT_FAILED"  # a machine that gives no reason, or one of its own
DISK_MISSING = "DISK_MISSING"  # the home disk is not attached

# All that the scripts have ever sent, including version 0.1: a machine keeps its scripts until it
# boots again.
BOOT_CODES = frozenset({
    DISK_MISSING, "DISK_DAMAGED", "DISK_FOREIGN", "DISK_FULL", "DISK_NOT_CHECKED",
    "DISK_NOT_FORMATTED", "DISK_READ_ONLY", "DISK_UNMOUNTABLE", "DISK_UNREADABLE", "DISK_UNUSABLE",
    "SECRETS_NOT_SAFE",
    "IMAGE_DENIED", "IMAGE_MISSING", "IMAGE_PULL_FAILED", "IMAGE_WRONG_PLATFORM",
    "REGISTRY_LOGIN_FAILED",
    "CONTAINER_ENDS", "CONTAINER_NOT_RUNNING", "CONTAINER_OUT_OF_MEMORY", "CONTAINER_REFUSED",
    "CONTAINER_UNHEALTHY",
    "BOOT_DISK_FULL", "DOCKER_NOT_RUNNING", "METADATA_AWAY", "METADATA_NOT_GUARDED",
})  # fmt: skip


def believed_code(code: str | None) -> str:
    """Return the code that a machine gives for its failure, or ``BOOT_FAILED`` if it is unknown."""
    return code if code in BOOT_CODES else BOOT_FAILED


def is_of_a_machine(code: str) -> bool:
    """Say whether an error's code is what a machine reported of itself."""
    return code == BOOT_FAILED or code in BOOT_CODES
