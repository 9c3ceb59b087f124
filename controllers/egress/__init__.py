"""The site's way out, on the operator's side."""
