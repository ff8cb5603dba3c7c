"""The machine's boot configuration: scripts and units as files, and cloud-init to install them."""
