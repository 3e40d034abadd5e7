"""Data: examples are read from files, the Hub or the embedded corpus, tokenized, and put into batches."""
