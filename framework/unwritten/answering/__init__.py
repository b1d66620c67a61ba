"""Answering: what goes back to the browser, over HTTP and over the socket."""
