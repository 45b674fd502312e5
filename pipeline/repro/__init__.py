"""The stale stages of an experiment side by side, on an engine.

DVC runs stages one after the other, and only one DVC at a time may write its lock file. So here a job runs the stale
stages of an ablation without DVC, its results go into DVC's run cache, and in the end `dvc repro` finds every stage there:
what it leaves is what it would have left alone.
"""
