"""jsnn beside other ways to the same end, one file a subject: `python -m experiments.benchmark [CASE]`."""
