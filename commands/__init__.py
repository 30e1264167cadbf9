"""The words of the command line: each file reads options, calls what does the work, and prints."""
