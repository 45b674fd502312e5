"""The report of a search: tables of its results, figures, claims and the page."""
