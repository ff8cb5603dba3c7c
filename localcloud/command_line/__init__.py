"""The commands of ``python -m localcloud``, and the demo."""
