"""The figures of the report: typed cells and tables in, a matplotlib figure out."""
