"""What the Hub's functions share: decisions, use cases, ports, adapters and edges."""
