"""What is trained: a model, data, a loss; those that travel with the package, and one's own."""
