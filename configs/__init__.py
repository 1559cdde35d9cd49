"""One experiment each: `get_config()` returns it, and the docstring opens with what it reaches."""
