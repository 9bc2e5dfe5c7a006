"""Pictures and pages of results: paths, trainings, sweeps, races, benches, and the cells of a notebook."""
