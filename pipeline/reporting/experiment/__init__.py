"""The report of a grid: tables and comparisons, then findings, then a page."""
