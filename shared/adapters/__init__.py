"""The ports, implemented on Google Cloud. Only this package imports ``google.cloud``."""

from shared.adapters.google_packages import defer

for _package in (
    "google.cloud.compute_v1",
    "google.cloud.firestore_v1",
    "google.cloud.tasks_v2",
    "google.pubsub_v1",
):
    defer(_package)
