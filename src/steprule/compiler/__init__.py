"""One rule, many executables: graph.py traces a rule, eager.py runs it, formula.py prints it."""
