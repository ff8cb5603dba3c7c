"""The Workspace Hub on one machine, with stand-ins for the services of Google's that it uses."""
