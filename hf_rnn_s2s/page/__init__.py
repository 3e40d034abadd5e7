"""The demo page: text or speech in, what a model writes out, with its n-best list and a heat map of its attention."""
