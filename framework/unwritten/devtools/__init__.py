"""Developer tools: the toolbar, the panel with recorded frames, request traces and live reload."""
