"""Problems are what optimizers train: data, a model and a loss, of the package or of the user."""
