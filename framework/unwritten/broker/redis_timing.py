"""How often the processes of a Redis broker report, and how long they wait for each other. All values are seconds."""

from __future__ import annotations

HEARTBEAT = 1.0
"""Interval between two heartbeats of a process."""

LEASE_LIFETIME = 3.0
"""Time from the last heartbeat of a lease's holder until another process may take over the page."""

LEASE_REACQUISITION_TIME = 1.5
"""Time after the server was unavailable in which no new lease is given, so that holders can take theirs again."""

PUBLISH_INTERVAL = 0.04
"""Interval between two frames of a page."""

COMMAND_TIMEOUT = 2.0
"""Time after which a server that does not respond counts as unavailable."""
