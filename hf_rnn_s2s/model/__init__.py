"""The model: what travels beside a checkpoint and loads where this package is not installed.

These files are copied into one flat folder, so they import the standard library, torch, tokenizers, transformers and
each other, and nothing else of this package.
"""
