"""MLflow's view of the results: runs, curves and numbers for people to look at. Nothing else imports MLflow.

The files are the truth, and the view can be rebuilt from them at any time: a store that does not answer costs seconds
and a warning, never a result. `ablations` writes the runs of trained ablations, `trials` those of a search.
"""
