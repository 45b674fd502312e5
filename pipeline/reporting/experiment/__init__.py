"""The report of an experiment: tables and comparisons, then sections, then a page."""
