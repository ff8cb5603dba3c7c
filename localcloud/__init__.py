"""The Hub on one machine: the platform services that it uses, served locally."""
