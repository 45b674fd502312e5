"""One Lightning `fit` per cell: population, data, optimizers, checkpoints."""
