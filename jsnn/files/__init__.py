"""Safe reading of arrays from files that somebody else wrote: nothing is read before its size is known.

Readers of weights, graphs and data sets build on these. An error names the array and what is wrong, in one line; the
caller adds the name of the file. No code from a file is run, and no other file is opened because a file says so.
"""

from jsnn.files.budget import Budget, FileError, one_line
from jsnn.files.npz import Header, Npz
from jsnn.files.path import as_path, cache_folder

__all__ = ["Budget", "FileError", "Header", "Npz", "as_path", "cache_folder", "one_line"]
