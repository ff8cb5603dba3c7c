"""The ports, implemented on Google Cloud. Only this package imports ``google.cloud``."""
