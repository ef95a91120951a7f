"""The commands: each a function of the parsed arguments and the output that returns the exit code."""
