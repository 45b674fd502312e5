"""The tasks: one class each, with its options and the generator of its examples."""
