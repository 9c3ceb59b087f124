"""Questions to models, on their way out and back."""
