"""The llama.cpp engine: GGUF models in this process, including the embedded model.

``gguf`` reads the file's header first, for precise error messages. ``engine`` schedules requests onto cache slots, and
each request runs in a thread of its own (``completion``) that calls llama.cpp.
"""
