"""Model servers that speak OpenAI's chat protocol.

The life of a request: ``engine`` waits for a place and starts an ``exchange``, which sends it, reads the events that
come back (``sse``), and takes off what is no answer (``answers``). ``servers`` has looked at the server before; what it
turns out not to understand is kept in ``dialect``; what it says when it refuses is read by ``refusals``.
"""
