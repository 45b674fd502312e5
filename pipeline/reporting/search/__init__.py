"""The report of a search: results as tables, figures, claims and the page."""
