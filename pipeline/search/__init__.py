"""Optuna: which depths and residual patterns still converge. Space, objective, study, workers."""
