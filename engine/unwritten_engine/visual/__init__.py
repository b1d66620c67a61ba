"""The engine for a llama.cpp command that shows DiffusionGemma's canvas in a terminal."""
