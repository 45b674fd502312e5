"""The search, with Optuna, for the fewest layers and residual connections with which training still converges."""
