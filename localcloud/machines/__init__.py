"""The machines of the local cloud that people can enter: one process tree for each, by SSH."""
