"""The tasks: a class per task has the options and generates the examples."""
