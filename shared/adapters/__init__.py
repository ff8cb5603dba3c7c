"""The ports on Google Cloud: the only place that imports ``google.cloud``."""
