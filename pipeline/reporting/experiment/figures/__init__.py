"""The figures of the report: typed ablations and tables in, a matplotlib figure out."""
