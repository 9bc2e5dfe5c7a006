"""A command a file, in the order in which `steprule` lists them; each parses, calls one function, and prints."""
