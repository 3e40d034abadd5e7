"""Fast search and other ways to run a trained model. It stays at home: checkpoints do not carry it."""
