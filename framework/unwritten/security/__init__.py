"""Security: signatures, signed links, allowed hosts, trusted proxies and rate limits."""
