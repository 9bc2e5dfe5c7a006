"""One rule, many executables: graph.py traces it, eager.py runs it, formula.py prints it, split.py and cpu.py compile it."""
