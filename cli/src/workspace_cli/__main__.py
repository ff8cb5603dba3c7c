"""``python -m workspace_cli`` is the command ``workspace``."""

from workspace_cli.main import main

main()
