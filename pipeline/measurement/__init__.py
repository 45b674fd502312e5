"""Pure functions of models and results."""
