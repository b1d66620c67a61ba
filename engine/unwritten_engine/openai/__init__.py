"""The engine for OpenAI-compatible servers.

``discovery`` finds the server's models. ``engine`` queues requests; ``chat_request`` sends one, reads the event stream
and makes frames. ``capabilities`` remembers what the server does not support, and ``errors`` parses its errors.
"""
