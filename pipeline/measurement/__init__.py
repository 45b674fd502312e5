"""Measurements of a model, one file each; `common/` has the functions that several of them share."""
