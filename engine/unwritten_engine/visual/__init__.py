"""The command line of a llama.cpp that draws DiffusionGemma's canvas in a terminal: ``screen`` reads what it drew."""
