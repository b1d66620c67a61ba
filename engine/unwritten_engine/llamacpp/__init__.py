"""GGUF models in this process, by llama.cpp: any file, and the model in the box.

The life of a request: ``engine`` makes a call of it and waits for a slot of the cache, and a thread of its own
(``job``) calls llama.cpp. Before, ``gguf`` has read the head of the file, to say what it is and what is wrong with it.
"""
