"""How likely a language model finds a text: the perplexity of what other models wrote, all under the same judge.

``gemma`` reads the judge's weights from the file of the model in the box, ``pieces`` makes tokens of texts as that
model knows them, and ``judge`` adds up how surprising each token was.
"""

from __future__ import annotations
