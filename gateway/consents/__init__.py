"""Notice, age gate and consents at the guard."""
