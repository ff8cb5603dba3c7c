"""The processes of a local cloud: how they start, how they are supervised, and how they end."""
