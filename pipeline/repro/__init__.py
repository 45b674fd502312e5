"""Run the stale stages of an experiment in parallel, on an engine.

DVC runs stages one after the other, and only one DVC process at a time may write the lock file dvc.lock. So a job runs
the stale stages of an ablation without DVC, the results go into DVC's run cache, and at the end `dvc repro` restores
every stage from the run cache: the files are those that `dvc repro` alone would have written.
"""
