"""Optuna: which depths and residual patterns still converge."""
