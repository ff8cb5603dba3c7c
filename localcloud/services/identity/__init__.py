"""The issuer of identity tokens and the metadata server of the local machines."""
