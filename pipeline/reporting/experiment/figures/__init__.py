"""The figures of the report: functions from ablations and tables to matplotlib figures."""
