"""Ways into a machine: what the Hub says of it is checked, and becomes arguments of OpenSSH."""
