"""Show runs, learning curves and metrics in MLflow. No other package imports MLflow.

MLflow holds copies of results that are stored in files, and every copy can be written again: if MLflow does not answer,
a command loses some seconds and prints a warning. `ablations` writes the runs of trained ablations, `trials` the runs
of a search.
"""
