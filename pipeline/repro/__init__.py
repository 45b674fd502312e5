"""Run the stale stages of an experiment side by side, on an engine.

DVC runs stages one after the other, and only one DVC at a time may write its lock file. So a job runs the stale stages
of an ablation without DVC, its results go into DVC's run cache, and at the end `dvc repro` restores every stage from
there: the files are those that `dvc repro` alone would have written.
"""
