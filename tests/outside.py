"""What a page would load from elsewhere."""

import re

_LOADS = re.compile(
    r"""<(?:link|script|img|iframe|source|video|object|embed)\b[^>]*?\b(?:href|src|data)\s*=\s*["']?([^"'\s>]+)"""
    r"""|\burl\(\s*["']?([^"')\s]+)|@import\s+["']?([^"';\s]+)|\bimport\(?\s*["'](https?:[^"']+)""",
    re.IGNORECASE,
)


def outside(page):
    """Return the addresses that a browser would load for a page, beyond what is in it."""
    addresses = ("".join(groups) for groups in _LOADS.findall(page))
    return [address for address in addresses if not address.startswith(("data:", "#"))]
