"""Questions of customers of banks, hospitals and city halls, in German and English, with what is personal in them."""
