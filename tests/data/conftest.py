"""Keeps pytest from importing what needs other libraries."""

collect_ignore_glob = ["write_*.py"]
