"""One rule, many executables: a tracer makes its graph, from which every form is printed."""
