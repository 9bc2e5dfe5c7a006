"""One rule, many executables: a graph of what the rule computes, and all that is printed from it."""
