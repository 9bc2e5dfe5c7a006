"""What a reader sees: pictures of paths, trainings and sweeps, the page of a race, a notebook's cells."""
