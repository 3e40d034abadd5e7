"""Training: arguments, the Trainer, checkpoints, metrics, pictures, the model card, and tokenizers."""
