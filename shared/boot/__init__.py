"""The machine's boot configuration: scripts and units that a person can read and lint, and the cloud-init that carries them."""
