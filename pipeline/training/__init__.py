"""One Lightning `fit` per ablation: population, data, optimizers, checkpoints."""
