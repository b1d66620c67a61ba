"""One engine for several processes: a server that shares a loaded engine, and the engine that uses such a server."""
