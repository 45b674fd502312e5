"""Functions that measurements, evaluation and reports share. None of them is a measurement."""
