"""The transformer and its switches."""
