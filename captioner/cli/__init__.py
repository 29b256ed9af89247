"""The command line: arguments to frozen options to calls."""
