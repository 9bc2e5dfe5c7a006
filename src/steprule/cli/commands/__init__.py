"""The commands, one per file; each parses, calls one function and prints."""
