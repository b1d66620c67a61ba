"""State: tables that authors declare, and the actions that change them before the eyes of all."""
